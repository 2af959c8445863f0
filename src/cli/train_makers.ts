/** The flags that say how the makers draw. */
import { join } from "node:path";
import { heldOutDesigns } from "@/data/lettering/designs_table.ts";
import type { Face } from "@/data/lettering/face.ts";
import { StrokeFace } from "@/data/lettering/stroke_face.ts";
import { TrueTypeFace } from "@/data/lettering/truetype.ts";
import { defaultSettings } from "@/data/makers/maker_registry.ts";
import type { MakerSettings } from "@/data/makers/sample.ts";
import { heldOutWords } from "@/data/makers/words_table.ts";
import { OperatingError } from "@/errors.ts";
import type { Flags } from "./flags.ts";

/** What `--side`, `--fonts` and `--held-out` say of the makers. */
export function makerSettings(flags: Flags): MakerSettings {
  const settings = defaultSettings(flags.number("side") ?? 224);
  const fonts = flags.string("fonts");
  const added = fonts === undefined ? [] : trueTypeFaces(fonts);
  if (!flags.on("held-out")) return { ...settings, faces: [...settings.faces, ...added] };
  const faces = added.length > 0 ? added : heldOutDesigns.map((design) => new StrokeFace(design));
  return { ...settings, faces, newDesigns: 0, words: heldOutWords };
}

/** All `.ttf` files under a folder, by path. */
function trueTypeFaces(folder: string): Face[] {
  const paths: string[] = [];
  const walk = (path: string) => {
    for (const { name, isDirectory, isFile } of Deno.readDirSync(path)) {
      if (isDirectory) walk(join(path, name));
      else if (isFile && name.endsWith(".ttf")) paths.push(join(path, name));
    }
  };
  try {
    walk(folder);
  } catch (cause) {
    throw new OperatingError("invalid_request", `Cannot read fonts in ${folder}`, { cause });
  }
  if (paths.length === 0) {
    throw new OperatingError("invalid_request", `Cannot find a .ttf file in ${folder}`);
  }
  return paths.sort().map((path) =>
    new TrueTypeFace(path.slice(folder.length + 1), Deno.readFileSync(path))
  );
}

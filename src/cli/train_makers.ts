/** The flags that say what the makers draw, and how. */
import { join } from "node:path";
import { heldOutDesigns } from "@/data/lettering/designs_table.ts";
import type { Face } from "@/data/lettering/face.ts";
import { StrokeFace } from "@/data/lettering/stroke_face.ts";
import { TrueTypeFace } from "@/data/lettering/truetype.ts";
import { defaultSettings, parseTaskName, taskNames } from "@/data/makers/maker_registry.ts";
import type { MakerSettings } from "@/data/makers/sample.ts";
import { heldOutWords } from "@/data/makers/words_table.ts";
import type { MixtureSource } from "@/data/stream/mixture.ts";
import { OperatingError } from "@/errors.ts";
import type { Recipe } from "@/training/recipes/recipe.ts";
import { mixtureSources, stageSettings } from "@/training/stage_samples.ts";
import type { Flags } from "./flags.ts";

/** What `--side`, `--fonts` and `--held-out` say of the makers, at the recipe's difficulty. */
export function makerSettings(flags: Flags, recipe?: Recipe): MakerSettings {
  const side = flags.number("side");
  const own = recipe && recipe.kind !== "soup" ? stageSettings(recipe.data) : defaultSettings();
  const settings = { ...own, ...side !== undefined && { side } };
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

/** Tasks and weights: `--task`, else the recipe's, else all the same. */
export function mixtureOf(flags: Flags, recipe: Recipe | undefined): MixtureSource[] {
  const named = flags.list("task");
  if (named.length > 0) {
    return named.map((text) => {
      const [name, weight = "1"] = text.split("=");
      return { name: parseTaskName(name!), weight: Number(weight) };
    });
  }
  if (!recipe || recipe.kind === "soup") return taskNames.map((name) => ({ name, weight: 1 }));
  return mixtureSources(recipe.data);
}

/** Writes a hand-over folder: pictures, rows, command lines, a README with the traps. */
import { join } from "node:path";
import { OperatingError } from "@/errors.ts";
import type { Sample } from "@/data/makers/sample.ts";
import { Canvas } from "@/data/drawing/canvas.ts";
import { encodePng } from "@/data/drawing/png.ts";
import { commandFiles, type CommandOptions, trapsOf } from "./commands.ts";
import { BLANK_PICTURE, rowOf } from "./rows.ts";

export interface ExportOptions extends CommandOptions {
  readonly samples: Iterable<Sample>;
  readonly total: number;
  readonly thinking: boolean;
  readonly systemText: string;
  /** Folder to write; must not exist. It appears when it is complete. */
  readonly out: string;
  readonly onProgress?: (done: number, total: number) => void;
}

/** Writes everything aside, then renames. Gives the number of rows. */
export async function exportFolder(options: ExportOptions): Promise<number> {
  const { out, engine, purpose, onProgress, total } = options;
  if (engine === "llava" && purpose === "rl") {
    throw new OperatingError("invalid_request", "LLaVA's format has supervised rows only");
  }
  if (engine === "verl" && purpose === "sft") {
    throw new OperatingError("invalid_request", "verl's format has reinforcement rows only");
  }
  if (await Deno.stat(out).catch(() => undefined)) {
    throw new OperatingError("invalid_request", `Cannot export: ${out} exists`);
  }
  const aside = `${out}.partial`;
  await Deno.remove(aside, { recursive: true }).catch(() => undefined);
  await Deno.mkdir(join(aside, "images"), { recursive: true });
  const rows: string[] = [];
  for (const sample of options.samples) {
    const pictures = sample.pictures.map((_, i) =>
      `images/${sample.id.replaceAll("/", "-")}${sample.isClip ? `-${i}` : ""}.png`
    );
    for (const [i, picture] of sample.pictures.entries()) {
      await Deno.writeFile(join(aside, pictures[i]!), encodePng(picture));
    }
    const row = rowOf(sample, { ...options, pictures });
    if ((row["images"] as string[] | undefined)?.[0] === BLANK_PICTURE) await writeBlank(aside);
    rows.push(JSON.stringify(row));
    onProgress?.(rows.length, total);
  }
  const [name, text] = engine === "llava"
    ? ["train.json", `[\n${rows.join(",\n")}\n]\n`]
    : ["train.jsonl", rows.join("\n") + "\n"];
  await Deno.writeTextFile(join(aside, name), text);
  for (const [file, body] of Object.entries(commandFiles(options))) {
    const mode = file.endsWith(".sh") ? 0o755 : 0o644;
    await Deno.writeTextFile(join(aside, file), body, { mode });
  }
  await Deno.writeTextFile(join(aside, "README.md"), readme(options, rows.length));
  await Deno.rename(aside, out);
  return rows.length;
}

async function writeBlank(folder: string): Promise<void> {
  await Deno.writeFile(join(folder, BLANK_PICTURE), encodePng(new Canvas(28, 28, [255, 255, 255])));
}

function readme(options: ExportOptions, rows: number): string {
  const files = Object.keys(commandFiles(options)).map((name) => `- \`${name}\``);
  return [
    `# Training with ${options.engine}`,
    "",
    `${rows} rows (${options.purpose}). One node: \`./run.sh\`. Several: \`run_nodes.sh\` on each, or`,
    "`run_ray.sh` from the head of a Ray cluster.",
    "",
    ...files,
    "",
    "Known traps, and what was done about them:",
    "",
    ...trapsOf(options).map((trap) => `- ${trap}`),
    "",
  ].join("\n");
}

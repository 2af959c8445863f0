/**
 * What `train` does besides training: shows the shipped recipes, writes samples of the makers as
 * files, hands over to other engines, mixes and grows models, merges low-rank additions, scores models,
 * probes experts.
 */
import { join } from "node:path";
import { systemClock } from "@/clock.ts";
import { makeSample, type TaskName } from "@/data/makers/maker_registry.ts";
import type { Sample } from "@/data/makers/sample.ts";
import { encodePng } from "@/data/drawing/png.ts";
import { Mixture } from "@/data/stream/mixture.ts";
import { OperatingError } from "@/errors.ts";
import { exportFolder } from "@/training/handover/export_folder.ts";
import type { Engine } from "@/training/handover/rows.ts";
import type { Recipe } from "@/training/recipes/recipe.ts";
import { allRecipes, shippedRecipe } from "@/training/recipes/recipe_book.ts";
import { openRecipe } from "@/training/recipes/recipe_file.ts";
import { type Flags, UsageError } from "./flags.ts";
import { outFolder } from "./folder_flags.ts";
import { ProgressLine } from "./progress_line.ts";
import { printLine } from "./terminal.ts";
import { makerSettings, mixtureOf } from "./train_makers.ts";
import { growModel } from "./train_grow.ts";
import { mergeAdapter } from "./train_merge.ts";
import { probe } from "./train_probe.ts";
import { score } from "./train_score.ts";
import { mixSoup } from "./train_soup.ts";

type Action = (flags: Flags, args: readonly string[]) => Promise<number>;

/** What `train` does besides running a recipe, by the word that asks for it. */
export const trainActions: Readonly<Record<string, Action>> = {
  recipes,
  samples,
  export: exportData,
  soup: mixSoup,
  merge: mergeAdapter,
  grow: growModel,
  score,
  "probe-experts": probe,
};

/** Lists the shipped recipes, or prints one as the JSON that `train RECIPE.json` takes. */
function recipes(_: Flags, [name]: readonly string[]): Promise<number> {
  if (name !== undefined) printLine(JSON.stringify(shippedRecipe(name), null, 2));
  else for (const { name, purpose } of allRecipes) printLine(`${name.padEnd(18)} ${purpose}`);
  return Promise.resolve(0);
}

async function readRecipe(flags: Flags): Promise<Recipe | undefined> {
  const where = flags.string("recipe");
  return where === undefined ? undefined : await openRecipe(where);
}

function* drawSamples(
  flags: Flags,
  { recipe, count }: { recipe: Recipe | undefined; count: number },
): Generator<Sample> {
  const recipeSeed = recipe && recipe.kind !== "soup" ? recipe.data.seed : 1;
  const seed = flags.number("seed") ?? recipeSeed;
  const settings = makerSettings(flags, recipe);
  const mixture = new Mixture(mixtureOf(flags, recipe), { seed });
  for (let i = 0; i < count; i++) {
    const { source, index } = mixture.next();
    yield makeSample(source as TaskName, { seed, index, settings });
  }
}

/** Writes PNG files and `samples.jsonl` with questions, answers and the truth. */
async function samples(flags: Flags): Promise<number> {
  const out = outFolder(flags);
  const count = flags.number("count") ?? 100;
  if (await Deno.stat(out).catch(() => undefined)) {
    throw new OperatingError("invalid_request", `Cannot write samples: ${out} exists`);
  }
  const recipe = await readRecipe(flags);
  const progress = new ProgressLine("drawing", systemClock);
  const aside = `${out}.partial`;
  await Deno.remove(aside, { recursive: true }).catch(() => undefined);
  await Deno.mkdir(aside, { recursive: true });
  const lines: string[] = [];
  for (const sample of drawSamples(flags, { recipe, count })) {
    const { pictures, ...rest } = sample;
    const images: string[] = [];
    for (const [i, picture] of pictures.entries()) {
      const image = `${sample.id.replaceAll("/", "-")}-${i}.png`;
      await Deno.writeFile(join(aside, image), encodePng(picture));
      images.push(image);
    }
    lines.push(JSON.stringify({ ...rest, images }));
    progress.update(lines.length, count);
  }
  await Deno.writeTextFile(join(aside, "samples.jsonl"), lines.join("\n") + "\n");
  await Deno.rename(aside, out);
  printLine(`${out}: ${count} samples`);
  return 0;
}

async function exportData(flags: Flags): Promise<number> {
  const engine = flags.string("to") as Engine | undefined;
  if (engine === undefined) throw new UsageError("--to is missing: ms-swift, llava or verl");
  const out = outFolder(flags);
  const recipe = await readRecipe(flags);
  const count = flags.number("count") ?? 100;
  const trains = recipe && recipe.kind !== "soup" ? recipe : undefined;
  const purpose = flags.string("purpose") as "sft" | "rl" | undefined;
  const learns = (part: "vision" | "adapter" | "decoder") =>
    trains === undefined || trains.trainable.includes(part);
  const rows = await exportFolder({
    engine,
    purpose: purpose ??
      (engine === "verl" || (trains?.kind === "reinforcement" && engine !== "llava")
        ? "rl"
        : "sft"),
    model: flags.list("model")[0] ?? "BytedanceDouyinContent/SAIL-VL2-2B",
    freeze: { vision: !learns("vision"), adapter: !learns("adapter"), decoder: !learns("decoder") },
    lora: flags.on("lora"),
    rate: trains?.optimizer.peakRate ?? 1e-5,
    contextTokens: 8192,
    answersPerPrompt: trains?.kind === "reinforcement" ? trains.answersPerPrompt : 8,
    answerTokens: 4096,
    nodes: flags.number("train-nodes") ?? 1,
    gpusPerNode: flags.number("gpus") ?? 8,
    samples: drawSamples(flags, { recipe, count }),
    total: count,
    thinking: flags.on("thinking"),
    systemText: "You are a helpful assistant.",
    out,
    onProgress: new ProgressLine("exporting", systemClock).update,
  });
  printLine(`${out}: ${rows} rows for ${engine}; start with ${join(out, "run.sh")}`);
  return 0;
}

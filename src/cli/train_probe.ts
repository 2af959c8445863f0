/** `train probe-experts`: how evenly a sparse model's experts are used, and by which tasks. */
import { systemClock } from "@/clock.ts";
import { openBackend } from "@/kernels/open.ts";
import { openCheckpoint } from "@/model/open_checkpoint.ts";
import { textTable } from "@/text_table.ts";
import {
  calibrateWeights,
  type ExpertProbe,
  layerEntropies,
  probeExperts,
} from "@/training/expert_probe.ts";
import type { RecipeData } from "@/training/recipes/recipe.ts";
import { openRecipe } from "@/training/recipes/recipe_file.ts";
import { openModelText } from "@/training/model_text.ts";
import { StageSamples } from "@/training/stage_samples.ts";
import { loadTrainable } from "@/training/training_source.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { backendFlags } from "./backend_flags.ts";
import type { Flags } from "./flags.ts";
import { onlyModel } from "./folder_flags.ts";
import { ProgressLine } from "./progress_line.ts";
import { printLine } from "./terminal.ts";
import { mixtureOf } from "./train_makers.ts";

/** Samples of each task unless `--count` says. */
const SAMPLES = 32;
/** How many times larger or smaller the calibration may make a task's share of the rows. */
const BOUND = 4;

export async function probe(flags: Flags): Promise<number> {
  const folder = onlyModel(flags, "a model with experts");
  const data = await dataOf(flags);
  const weights = Object.entries(data.mixture).filter(([, weight]) => weight! > 0);
  const backend = await openBackend({ ...backendFlags(flags), training: true });
  try {
    const { checkpoint, config } = await openCheckpoint({ folder: diskFolder(folder) });
    const model = await loadTrainable({ checkpoint, config, backend });
    checkpoint.close();
    const { encoder } = await openModelText(folder, config);
    const found = await probeExperts({
      backend,
      model,
      encoder,
      samples: new StageSamples(data),
      tasks: weights.map(([task]) => task),
      count: flags.number("count") ?? SAMPLES,
      onProgress: new ProgressLine("probing", systemClock).update,
    });
    printProbe(found, weights.map(([, weight]) => weight!));
    return 0;
  } finally {
    await backend.close();
  }
}

/** The recipe's data with the mixture of `--task`, or of the recipe, or all tasks alike. */
async function dataOf(flags: Flags): Promise<RecipeData> {
  const where = flags.string("recipe");
  const recipe = where === undefined ? undefined : await openRecipe(where);
  const mixture = Object.fromEntries(
    mixtureOf(flags, recipe).map(({ name, weight }) => [name, weight]),
  );
  if (recipe && recipe.kind !== "soup") return { ...recipe.data, mixture };
  return { seed: flags.number("seed") ?? 1, mixture, thinkingShare: 0 };
}

function printProbe(found: ExpertProbe, weights: readonly number[]): void {
  const mean = (values: readonly number[]) =>
    values.reduce((sum, value) => sum + value, 0) / values.length;
  const row = (name: string, list: readonly number[]) => {
    const entropies = layerEntropies(found, list);
    return [name, mean(entropies).toFixed(3), ...entropies.map((value) => value.toFixed(3))];
  };
  const alone = (task: number) => weights.map((_, i) => i === task ? 1 : 0);
  const better = calibrateWeights(found, weights, BOUND);
  const rows = [
    ["task", "mean", ...found.layers.map((layer) => `layer ${layer}`)],
    ...found.tasks.map(({ task }, i) => row(task, alone(i))),
    row("mixture", weights),
    row("calibrated", better),
  ];
  printLine("entropy of the experts' use, 1 = all alike");
  const right = new Set(rows[0]!.map((_, i) => i).slice(1));
  for (const line of textTable(rows, right)) printLine(line);
  const mixture = Object.fromEntries(
    found.tasks.map(({ task }, i) => [task, Number(better[i]!.toPrecision(3))]),
  );
  printLine(`calibrated, shares of rows within ${BOUND} times: ${JSON.stringify(mixture)}`);
}

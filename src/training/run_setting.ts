/** What a run of either kind stands on: the model with its weights, the trainer, the encoder. */
import type { Backend } from "@/kernels/backend.ts";
import { mergeOrder } from "@/model/adapter.ts";
import type { ModelConfig } from "@/model/config.ts";
import { openCheckpoint } from "@/model/open_checkpoint.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { CueHead } from "./cue_head.ts";
import { addLowRank, type LowRankModel } from "./low_rank.ts";
import { type ModelText, openModelText } from "./model_text.ts";
import type { ParameterRate } from "./optimizer.ts";
import { type ModelPart, type Parameter, ParameterSet } from "./parameter_set.ts";
import type { TrainingRecipe } from "./recipes/recipe.ts";
import type { RunParts } from "./run_checkpoint.ts";
import { originOf } from "./run_lineage.ts";
import { Trainer } from "./trainer.ts";
import { loadTrainable, type TrainableModel } from "./training_source.ts";

export interface RunSetting extends ModelText {
  readonly backend: Backend;
  readonly model: TrainableModel | LowRankModel;
  readonly trainer: Trainer;
  /** Folder of the model that the run starts from. */
  readonly modelFolder: string;
  /** What checkpoints are made of. */
  readonly parts: RunParts;
}

/** Loads a model for a recipe: what learns is chosen, everything else is frozen. */
export async function openSetting(
  { recipe, modelFolder, backend }: {
    recipe: TrainingRecipe;
    modelFolder: string;
    backend: Backend;
  },
): Promise<RunSetting> {
  const origin = await originOf(modelFolder, { recipe: recipe.name, seed: recipe.data.seed });
  const { checkpoint, config } = await openCheckpoint({ folder: diskFolder(modelFolder) });
  let model: TrainableModel | LowRankModel;
  try {
    model = await loadTrainable({ checkpoint, config, backend });
  } finally {
    checkpoint.close();
  }
  const cues = openCues(recipe, { config, backend });
  const asked = cues.flatMap(({ parameters }) => parameters);
  if (cues.length > 0) {
    model = { ...model, set: new ParameterSet([...model.set.parameters, ...asked]) };
  }
  const { lora, data: { seed } } = recipe;
  if (lora) model = await addLowRank(backend, model, { lora, seed });
  model.set.choose(backend, (parameter) => learns(parameter, recipe));
  const { kind, momentum, betas: [beta1, beta2], epsilon, clipNorm } = recipe.optimizer;
  const trainer = new Trainer({
    backend,
    model,
    optimizer: {
      ...{ beta1, beta2, epsilon, normMax: clipNorm },
      ...kind === "muon" && { momentum },
    },
    checkpointing: recipe.activationCheckpointing,
    router: { balance: recipe.balanceWeight, z: recipe.zLossWeight },
    cues,
  });
  const { purpose: _, checkpoints: __, ...decisive } = recipe;
  const fingerprint = JSON.stringify({
    recipe: decisive,
    numericClass: backend.description.numericClass,
    model: origin.ancestors.at(-1),
  });
  const { optimizer } = trainer;
  const parts = { backend, model, optimizer, modelFolder, fingerprint, origin };
  return {
    backend,
    model,
    trainer,
    modelFolder,
    parts,
    ...await openModelText(modelFolder, config, { withCues: cues.length > 0 }),
  };
}

/** Whether a recipe teaches a parameter. What no checkpoint has (cues, low-rank factors) always learns. */
function learns(
  { name, part, info: { places } }: Parameter,
  { trainable, frozenLayers }: Pick<TrainingRecipe, "trainable" | "frozenLayers">,
): boolean {
  if (places.length === 0) return true;
  if (!(trainable as readonly ModelPart[]).includes(part)) return false;
  const layers: Partial<Record<ModelPart, number>> = frozenLayers ?? {};
  const frozen = layers[part];
  if (frozen === undefined) return true;
  const [, place] = name.split(".");
  // Patches, positions and embeddings lie before the layers, norm and head behind them.
  return /^\d+$/.test(place!) ? Number(place) >= frozen : place === "norm" || place === "head";
}

/** The heads for cues that the recipe wants. */
function openCues(
  recipe: TrainingRecipe,
  { config, backend }: { config: ModelConfig; backend: Backend },
): CueHead[] {
  if (recipe.kind !== "supervised") return [];
  const { vision, decoder, preprocess: { tileSize }, mergeFactor: factor } = config;
  const heads: CueHead[] = [];
  if (recipe.cueWeight > 0) {
    heads.push(new CueHead({ backend, width: vision.hiddenWidth, weight: recipe.cueWeight }));
  }
  if (recipe.tokenCueWeight > 0) {
    const side = tileSize / vision.patchSize;
    const grid = { rows: side, columns: side };
    const order = mergeOrder({ grid, factor, order: config.mergeOrder, count: 1 });
    const merge = { order, perToken: factor ** 2 };
    const { tokenCueWeight: weight } = recipe;
    heads.push(new CueHead({ backend, width: decoder.hiddenWidth, weight, merge }));
  }
  return heads;
}

/** Rate and decay of a parameter at a rate of the schedule: norms and biases do not decay. */
export function parameterRate(
  { optimizer: { partRates, weightDecay } }: Pick<TrainingRecipe, "optimizer">,
  { part, store }: Parameter,
  rate: number,
): ParameterRate {
  const decay = store.kind === "matrix" ? weightDecay : 0;
  return { rate: rate * (part === "cues" ? 1 : partRates?.[part] ?? 1), decay };
}

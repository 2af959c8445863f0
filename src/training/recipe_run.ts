/** Puts a run together from its recipe: model, makers' samples as batches, trainer, checkpoints. */
import { isAbsolute, join } from "node:path";
import type { Clock } from "@/clock.ts";
import { findPromptTokens } from "@/chat/served_model.ts";
import { readGrammar } from "@/chat/template.ts";
import { defaultSettings, makeSample, parseTaskName } from "@/data/makers/maker_registry.ts";
import { packBatch, type TokenizedSample } from "@/data/stream/packed_batch.ts";
import { SampleStream, type StreamCursor } from "@/data/stream/sample_stream.ts";
import type { Backend } from "@/kernels/backend.ts";
import { type ModelConfig, tokensPerTile } from "@/model/config.ts";
import { openCheckpoint } from "@/model/open_checkpoint.ts";
import { Tokenizer } from "@/tokenizer/tokenizer.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { ConversationEncoder } from "./conversation_encoder.ts";
import { cosineFactor, partFactor, type RunRecipe } from "./run_recipe.ts";
import { Trainer } from "./trainer.ts";
import { type BatchSource, type StepRecord, trainRun } from "./training_run.ts";
import { loadTrainable } from "./training_source.ts";

/** Waiting samples that the packer chooses from, and rounds that one waits at most. */
const BUFFER_SAMPLES = 64;
const ROUNDS_WAITED_MAX = 8;

export interface RecipeRunOptions {
  readonly recipe: RunRecipe;
  /** Folder that the recipe's paths start from. */
  readonly base: string;
  /** Where log and checkpoints go. */
  readonly folder: string;
  readonly backend: Backend;
  readonly clock: Clock;
  readonly onStep?: (record: StepRecord) => void;
  readonly isStopping?: () => boolean;
}

/** Runs a recipe, from its newest checkpoint if there is one; returns the steps done in all. */
export async function runRecipe(options: RecipeRunOptions): Promise<number> {
  const { recipe, backend, folder, clock } = options;
  const modelFolder = isAbsolute(recipe.model) ? recipe.model : join(options.base, recipe.model);
  const { checkpoint, config } = await openCheckpoint({ folder: diskFolder(modelFolder) });
  const model = await loadTrainable({ checkpoint, config, backend });
  checkpoint.close();
  model.set.choose(backend, ({ part }) => recipe.learns.includes(part));
  const { optimizer: { beta1, beta2, epsilon, normMax, rate, decay } } = recipe;
  const optimizer = { beta1, beta2, epsilon, normMax };
  const { checkpointing, router } = recipe;
  const trainer = new Trainer({ backend, model, optimizer, checkpointing, router });
  const encoder = await openEncoder(modelFolder, config);
  const fingerprint = JSON.stringify({ ...recipe, numericClass: backend.description.numericClass });
  const parts = { backend, model, optimizer: trainer.optimizer, modelFolder, fingerprint };
  try {
    return await trainRun({
      trainer,
      parts,
      openSource: (state) => openSource(recipe, encoder, state as StreamCursor | undefined),
      steps: recipe.steps,
      rateAt: (step) => rate * cosineFactor(recipe, step),
      rateOf: ({ part }, now) => ({ rate: now * partFactor(recipe, part), decay }),
      folder,
      checkpointSteps: recipe.checkpointSteps,
      checkpointsKept: recipe.checkpointsKept,
      clock,
      ...(options.onStep && { onStep: options.onStep }),
      ...(options.isStopping && { isStopping: options.isStopping }),
    });
  } finally {
    trainer.close();
  }
}

async function openEncoder(folder: string, config: ModelConfig): Promise<ConversationEncoder> {
  const text = (name: string) => Deno.readTextFile(join(folder, name)).catch(() => undefined);
  const tokenizer = await Tokenizer.load(text);
  const { tileSize, maxTiles, thumbnail } = config.preprocess;
  return new ConversationEncoder({
    tokenizer,
    promptTokens: findPromptTokens(tokenizer),
    grammar: readGrammar(await text("chat_template.jinja")),
    tokensPerTile: tokensPerTile(config),
    tiling: { tileSize, maxTiles, thumbnail, applyOrientation: false },
  });
}

/** Rounds of packed batches of the makers' samples. */
async function openSource(
  recipe: RunRecipe,
  encoder: ConversationEncoder,
  cursor: StreamCursor | undefined,
): Promise<BatchSource> {
  const { seed, data } = recipe;
  const settings = defaultSettings();
  const stream = await SampleStream.open<TokenizedSample>({
    sources: data.sources.map(({ maker, weight }) => ({ name: maker, weight })),
    seed,
    packing: {
      tokensMax: data.batchTokens,
      packsTogether: data.microBatches,
      bufferSamples: BUFFER_SAMPLES,
      roundsWaitedMax: ROUNDS_WAITED_MAX,
    },
    read: ({ source, index }) => {
      const sample = makeSample(parseTaskName(source), { seed, index, settings });
      return encoder.encode(sample, { thinking: data.thinking });
    },
  }, cursor);
  return {
    nextRound: async () => (await stream.nextRound()).map(({ items }) => packBatch(items)),
    get state() {
      return stream.cursor;
    },
  };
}

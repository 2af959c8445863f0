/**
 * One whole step of training as a thing to measure: the shipped model, a batch of the makers' words,
 * all weights learning. What it computes is described so that another engine can do the same.
 */
import { assert } from "@/assert.ts";
import type { Clock } from "@/clock.ts";
import { defaultSettings, makeSample } from "@/data/makers/maker_registry.ts";
import { packBatch, type PackedBatch, type TokenizedSample } from "@/data/stream/packed_batch.ts";
import { openWasmBackend } from "@/kernels/wasm/backend.ts";
import { type ModelConfig, tokensPerTile } from "@/model/config.ts";
import { openCheckpoint } from "@/model/open_checkpoint.ts";
import { openModelText } from "@/training/model_text.ts";
import { Trainer } from "@/training/trainer.ts";
import { loadTrainable } from "@/training/training_source.ts";
import { diskFolder } from "@/weights/disk_folder.ts";

/** Samples of the batch, of equal length, so that no engine pads. */
const SAMPLES = 16;
/** Of AdamW; the rate is small, so that every step is of the same model as good as. */
export const stepOptimizer = {
  rate: 1e-5,
  weightDecay: 0.05,
  betas: [0.9, 0.98],
  epsilon: 1e-8,
  clipNorm: 1,
} as const;

export interface StepTask {
  readonly modelFolder: string;
  readonly config: ModelConfig;
  readonly samples: number;
  readonly batch: PackedBatch;
}

/** What an engine did in a step, and how long its steps took. */
export interface StepMeasurement {
  /** Of the first step, to see that two engines did the same. */
  readonly loss: number;
  readonly gradientNorm: number;
  readonly seconds: readonly number[];
}

/** A batch of the first words whose samples have one length. */
export async function openStepTask(modelFolder: string): Promise<StepTask> {
  const { checkpoint, config } = await openCheckpoint({ folder: diskFolder(modelFolder) });
  checkpoint.close();
  const { encoder } = await openModelText(modelFolder, config);
  const byLength = new Map<number, TokenizedSample[]>();
  const settings = defaultSettings(config.preprocess.tileSize);
  for (let index = 0; index < 100 * SAMPLES; index++) {
    const sample = makeSample("word", { seed: 1, index, settings });
    const tokenized = encoder.encode(sample, { thinking: false });
    const alike = byLength.get(tokenized.ids.length) ?? [];
    byLength.set(tokenized.ids.length, [...alike, tokenized]);
    if (alike.length + 1 === SAMPLES) {
      return { modelFolder, config, samples: SAMPLES, batch: packBatch([...alike, tokenized]) };
    }
  }
  throw new RangeError(`No ${SAMPLES} samples of one length`);
}

/** Our own steps, after `warmups` that do not count. */
export async function measureStep(
  { modelFolder, batch }: StepTask,
  { threads, warmups, repeats, clock }: {
    threads: number;
    warmups: number;
    repeats: number;
    clock: Clock;
  },
): Promise<StepMeasurement> {
  const { checkpoint, config } = await openCheckpoint({ folder: diskFolder(modelFolder) });
  const backend = await openWasmBackend({ threads, training: true });
  try {
    const model = await loadTrainable({ checkpoint, config, backend });
    model.set.choose(backend, () => true);
    const { rate, weightDecay, betas: [beta1, beta2], epsilon, clipNorm } = stepOptimizer;
    const optimizer = { beta1, beta2, epsilon, normMax: clipNorm };
    const trainer = new Trainer({ backend, model, optimizer });
    let first: Omit<StepMeasurement, "seconds"> | undefined;
    const seconds: number[] = [];
    for (let i = 0; i < warmups + repeats; i++) {
      const startMs = clock.nowMs();
      const { loss, gradientNorm } = await trainer.step([batch], ({ store }) => ({
        rate,
        decay: store.kind === "matrix" ? weightDecay : 0,
      }));
      first ??= { loss, gradientNorm };
      if (i >= warmups) seconds.push((clock.nowMs() - startMs) / 1000);
    }
    trainer.close();
    model.set.close(backend);
    assert(first, "a step was done");
    return { ...first, seconds };
  } finally {
    checkpoint.close();
    await backend.close();
  }
}

/**
 * Floating-point operations that the step's products need: forward, gradient by input, gradient by
 * weight; no gradient by the pixels. Attention counts the pairs that see each other.
 */
export function stepFlops({ config, samples, batch }: StepTask): number {
  const { vision, decoder, mergeFactor, preprocess } = config;
  const patches = samples * (preprocess.tileSize / vision.patchSize) ** 2;
  const visual = samples * tokensPerTile(config);
  const rows = batch.tokenIds.length;
  const length = rows / samples;
  const patchSize = 3 * vision.patchSize ** 2;
  const visionLayer = 4 * vision.hiddenWidth ** 2 +
    3 * vision.hiddenWidth * vision.intermediateWidth +
    2 * vision.hiddenWidth * patches / samples;
  const merged = mergeFactor ** 2 * vision.hiddenWidth;
  const adapter = merged * decoder.hiddenWidth + decoder.hiddenWidth ** 2;
  const queries = decoder.heads * decoder.headWidth;
  const keys = decoder.kvHeads * decoder.headWidth;
  const decoderLayer = 2 * decoder.hiddenWidth * (queries + keys) +
    3 * decoder.hiddenWidth * decoder.intermediateWidth + 2 * queries * (length + 1) / 2;
  const head = batch.targets.length * decoder.hiddenWidth * decoder.vocabularySize!;
  const thrice = patches * vision.layers * visionLayer + visual * adapter +
    rows * decoder.layers * decoderLayer + head;
  return 2 * (3 * thrice + 2 * patches * patchSize * vision.hiddenWidth);
}

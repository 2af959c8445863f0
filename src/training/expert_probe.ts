/**
 * How a sparse model's experts are used by the makers' tasks, layer by layer: the report's probe of
 * activation entropy, and its calibration of the data. The procedure is ours, the report gives none:
 * weights of the tasks are moved, within bounds, to where the mean entropy over layers is highest.
 */
import { assert } from "@/assert.ts";
import { packBatch } from "@/data/stream/packed_batch.ts";
import { OperatingError } from "@/errors.ts";
import type { Backend } from "@/kernels/backend.ts";
import { isSparseLayer } from "@/model/config.ts";
import { BufferPool } from "./buffer_pool.ts";
import type { ConversationEncoder } from "./conversation_encoder.ts";
import { BatchTensors, PackedModel, type ProgramBatch } from "./packed_forward.ts";
import { activationEntropy } from "./policy/moe_balance.ts";
import type { StageSamples } from "./stage_samples.ts";
import { Tape } from "./tape.ts";
import type { TrainableModel } from "./training_source.ts";

/** Use of the experts by one task. */
export interface TaskUse {
  readonly task: string;
  readonly samples: number;
  /** Times that each expert of each sparse layer was chosen. */
  readonly assigned: readonly (readonly number[])[];
}

export interface ExpertProbe {
  /** Numbers of the sparse layers. */
  readonly layers: readonly number[];
  readonly tasks: readonly TaskUse[];
}

export interface ProbeOptions {
  readonly backend: Backend;
  readonly model: TrainableModel;
  readonly encoder: ConversationEncoder;
  readonly samples: StageSamples;
  readonly tasks: readonly string[];
  /** Samples of each task. */
  readonly count: number;
  readonly onProgress?: (done: number, total: number) => void;
}

/** Samples that are computed together. */
const BATCH_SAMPLES = 8;

/** Runs samples of each task through the model and counts its gates' choices. */
export async function probeExperts(options: ProbeOptions): Promise<ExpertProbe> {
  const { backend, model, encoder, samples, tasks, count, onProgress } = options;
  const layers = model.parameters.decoder.layers.map((_, i) => i)
    .filter((i) => isSparseLayer(model.config.decoder, i));
  if (layers.length === 0) {
    throw new OperatingError("invalid_request", "Cannot probe experts: the model has none");
  }
  // The tape keeps what gates read only where they learn.
  model.set.choose(backend, ({ name }) => name.endsWith(".moeGate.weight"));
  const packed = new PackedModel(model, backend);
  const pool = new BufferPool(backend);
  const uses: TaskUse[] = [];
  for (const task of tasks) {
    const assigned = layers.map(() => new Array<number>(model.config.decoder.moe!.experts).fill(0));
    for (let from = 0; from < count; from += BATCH_SAMPLES) {
      const indexes = Array.from({ length: Math.min(BATCH_SAMPLES, count - from) }, (_, i) => i);
      const batch = packBatch(indexes.map((i) => {
        const made = samples.make({ source: task, index: from + i, level: Infinity });
        return encoder.encode(made.sample, made);
      }));
      const counts = await gateCounts({ backend, model, packed, pool }, batch);
      for (const [layer, row] of counts.entries()) {
        for (const [expert, times] of row.entries()) assigned[layer]![expert]! += times;
      }
      onProgress?.(uses.length * count + from + indexes.length, tasks.length * count);
    }
    uses.push({ task, samples: count, assigned });
  }
  packed.close();
  pool.close();
  return { layers, tasks: uses };
}

/** Choices of each gate over all rows of a batch. */
async function gateCounts(
  { backend, model, packed, pool }: {
    backend: Backend;
    model: TrainableModel;
    packed: PackedModel;
    pool: BufferPool;
  },
  batch: ProgramBatch,
): Promise<number[][]> {
  assert(backend.training, "a probe on a backend without training ops");
  const { parameters: { decoder: { head } }, set: parameters } = model;
  const tensors = new BatchTensors(backend);
  const tape = new Tape({ backend, pool, parameters, head });
  tape.takeDeferred(await packed.forward(tape, { batch, tensors }));
  const { experts } = model.config.decoder.moe!;
  const rowWeight = tensors.f32(new Float32Array(batch.tokenIds.length).fill(1));
  const totals = tape.gates.map(({ logits, expertIndex }) => {
    const statistics = tensors.f32(new Float32Array(2 * experts));
    const views = { logits: tape.data(logits), expertIndex: tape.data(expertIndex), rowWeight };
    backend.training!.routerStatistics({ ...views, statistics });
    return statistics;
  });
  const counts: number[][] = [];
  for (const total of totals) {
    const values = await backend.read(total) as Float32Array;
    counts.push([...values.subarray(0, experts)]);
  }
  tape.discard();
  tensors.free();
  model.set.clear();
  return counts;
}

/** Shares of token rows that tasks have in a mixture of samples: longer samples weigh more. */
function rowShares({ tasks }: ExpertProbe, weights: readonly number[]): number[] {
  const rows = tasks.map(({ samples, assigned }, i) => weights[i]! * sum(assigned[0]!) / samples);
  return rows.map((value) => value / sum(rows));
}

/** Entropy of each layer under a mixture, 1 for even use. `weights`: of the tasks, by sample. */
export function layerEntropies(probe: ExpertProbe, weights: readonly number[]): number[] {
  return mixedUse(probe, rowShares(probe, weights)).map(activationEntropy);
}

/** Use of each layer's experts as shares, when tasks have these shares of the rows. */
function mixedUse({ tasks, layers }: ExpertProbe, shares: readonly number[]): number[][] {
  return layers.map((_, layer) => {
    const mixed = new Array<number>(tasks[0]!.assigned[layer]!.length).fill(0);
    for (const [t, { assigned }] of tasks.entries()) {
      const total = sum(assigned[layer]!);
      for (const [e, count] of assigned[layer]!.entries()) {
        mixed[e]! += shares[t]! * count / total;
      }
    }
    return mixed;
  });
}

const CALIBRATION_STEPS = 500;
const CALIBRATION_RATE = 0.2;

/**
 * Weights of the tasks that give the highest mean entropy over layers, while no task's share of the
 * rows is more than `bound` times larger or smaller than it was. The entropy is concave in the shares, so ascent finds the best.
 */
export function calibrateWeights(
  probe: ExpertProbe,
  weights: readonly number[],
  bound: number,
): number[] {
  const start = rowShares(probe, weights);
  let shares = start;
  for (let step = 0; step < CALIBRATION_STEPS; step++) {
    const mixed = mixedUse(probe, shares);
    const slopes = probe.tasks.map(({ assigned }) => {
      let slope = 0;
      for (const [layer, row] of assigned.entries()) {
        const total = sum(row);
        for (const [e, count] of row.entries()) {
          if (count > 0) slope -= count / total * Math.log(mixed[layer]![e]!);
        }
      }
      return slope / assigned.length;
    });
    const mean = slopes.reduce((total, slope, t) => total + slope * shares[t]!, 0);
    const wanted = shares.map((share, t) =>
      share * Math.exp(CALIBRATION_RATE * (slopes[t]! - mean))
    );
    shares = boundedShares(wanted, start, bound);
  }
  // Back from shares of rows to weights of samples, with the sum they had.
  const bySample = shares.map((share, t) => weights[t]! * share / start[t]!);
  const scale = sum(weights) / sum(bySample);
  return bySample.map((weight) => weight * scale);
}

/** The multiple of `wanted` that sums to 1 once each share is held within its bounds. */
function boundedShares(
  wanted: readonly number[],
  start: readonly number[],
  bound: number,
): number[] {
  const held = (factor: number) =>
    wanted.map((share, t) =>
      Math.min(start[t]! * bound, Math.max(start[t]! / bound, share * factor))
    );
  let [low, high] = [1 / bound / 4, 4 * bound];
  for (let i = 0; i < 60; i++) {
    const middle = Math.sqrt(low * high);
    if (sum(held(middle)) < 1) low = middle;
    else high = middle;
  }
  return held(high);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/**
 * Losses on the gates of sparse layers. Load balance: experts * sum over experts of (share of
 * assignments) * (mean probability), over all sparse layers together (Hugging Face's form: perfect
 * balance gives the number of choices, not 1); shares are those of the whole step so far, since a
 * micro-batch alone is too small to be balanced. z: mean squared logsumexp of the logits.
 */
import type { Tensor } from "@/tensor/tensor.ts";
import type { BatchTensors } from "./packed_forward.ts";
import type { Tape } from "./tape.ts";

export interface RouterLossOptions {
  /** Weight of the balance loss in the total; 0 leaves it out. */
  readonly balance: number;
  readonly z: number;
}

/** Counts of one optimiser step: [2, E], assignments and summed probabilities. */
export class RouterStatistics {
  readonly experts: number;
  #values: Float64Array;
  /** Rows of all layers. */
  #rows = 0;

  constructor(experts: number) {
    this.experts = experts;
    this.#values = new Float64Array(2 * experts);
  }

  add(values: Float32Array, rows: number): void {
    values.forEach((value, i) => this.#values[i]! += value);
    this.#rows += rows;
  }

  reset(): void {
    this.#values = new Float64Array(2 * this.experts);
    this.#rows = 0;
  }

  /** Assignments of each expert by the number of rows; they sum to the number of choices. */
  get shares(): number[] {
    return Array.from(
      this.#values.subarray(0, this.experts),
      (count) => count / Math.max(1, this.#rows),
    );
  }

  get balanceLoss(): number {
    const probabilities = this.#values.subarray(this.experts);
    const sum = this.shares.reduce((total, share, e) => total + share * probabilities[e]!, 0);
    return this.experts * sum / Math.max(1, this.#rows);
  }
}

/**
 * Reads the gates of a recorded program into `statistics`, and appends their losses to it. Waits
 * for the program.
 */
export async function recordRouterLosses(
  tape: Tape,
  options: RouterLossOptions & {
    statistics: RouterStatistics;
    tensors: BatchTensors;
    /** f32 [R]: 1 for rows that count. */
    rowWeights: Float32Array;
  },
): Promise<void> {
  const { statistics, tensors, rowWeights } = options;
  const { training, backend } = tape;
  const counted = rowWeights.reduce((sum, weight) => sum + (weight === 0 ? 0 : 1), 0);
  const totals = tensors.f32(new Float32Array(2 * statistics.experts));
  const rowWeight = tensors.f32(rowWeights);
  for (const { logits, expertIndex } of tape.gates) {
    const views = { logits: tape.data(logits), expertIndex: tape.data(expertIndex), rowWeight };
    training.routerStatistics({ ...views, statistics: totals });
  }
  const rows = counted * tape.gates.length;
  statistics.add(await backend.read(totals) as Float32Array, rows);
  const slope = options.balance * statistics.experts / Math.max(1, rows);
  const expertScale = tensors.f32(Float32Array.from(statistics.shares, (share) => slope * share));
  const zScale = options.z / Math.max(1, rows);
  for (const { logits } of tape.gates) recordLoss(tape, logits, { rowWeight, expertScale, zScale });
}

function recordLoss(
  tape: Tape,
  logits: Tape["gates"][number]["logits"],
  scales: { rowWeight: Tensor; expertScale: Tensor; zScale: number },
): void {
  if (!tape.isTracked(logits)) return;
  tape.record({
    outs: [],
    saves: [logits],
    isLoss: true,
    forward: () => {},
    backward() {
      const { tensor: logitsGrad, accumulate } = tape.target(logits)!;
      const views = { logits: tape.data(logits), ...scales };
      tape.training.routerLossGrad({ ...views, accumulate, logitsGrad });
    },
  });
}

/**
 * The ops that training adds to the vocabulary of `ops.ts`: gradients of its ops, the fused loss
 * head and the optimiser. The same rules hold: shapes never depend on computed data, outputs are
 * passed in, every sum runs in one fixed order, work is split over outputs and never over a sum.
 * So a step gives the same bits with any number of threads.
 *
 * Names: `outGrad` is the gradient of an op's output, `inputGrad` that of its input. Where
 * `accumulate` is given, true adds to the gradient that is there and false overwrites it whole. A
 * gradient never shares memory with another argument. Weights and their gradients are float32
 * matrices of the same shape.
 */
import type { Storage, Tensor } from "@/tensor/tensor.ts";
import type { Matrix } from "./backend.ts";

/** Anything that is stored as float32 and updated as a whole: a tensor of its own, or a matrix. */
export interface FloatStore {
  readonly storage: Storage;
}

/** A gradient that is written, or added to. */
export interface GradientTarget {
  readonly tensor: Tensor;
  readonly accumulate: boolean;
}

/** Which rows attend to which. */
export interface AttentionRange {
  /**
   * i32 [R]: row r attends to the rowLength[r] rows that end with itself (sequences packed one
   * after the other, causal, positions from 0). Missing: all rows of its segment attend to each
   * other.
   */
  readonly rowLength?: Tensor;
  /** Rows of a segment, without rowLength. */
  readonly segmentRows?: number;
}

interface AttentionOperands extends AttentionRange {
  /** [R, heads * headWidth] */
  readonly query: Tensor;
  /** [R, kvHeads * headWidth] */
  readonly key: Tensor;
  readonly value: Tensor;
  readonly heads: number;
  readonly kvHeads: number;
  readonly scale: number;
  /** [R, heads * headWidth] */
  readonly out: Tensor;
}

/** The product of the last hidden rows with the head, of which only single columns are wanted. */
interface HeadOperands {
  /** [R, K] */
  readonly input: Tensor;
  /** [V, K] */
  readonly weight: Matrix;
  /** i32 [R], ids below V. */
  readonly target: Tensor;
  /** Out: [R], log-softmax of the row's logits at its target. */
  readonly logprob: Tensor;
  /** Out: [R], entropy of the row's distribution in nats. */
  readonly entropy: Tensor;
}

export interface TrainingOps {
  /** Every element of the store becomes `value`. */
  fill(args: { out: FloatStore; value: number }): void;

  /** out += input. Same sizes. */
  accumulate(args: { input: Tensor; out: Tensor }): void;

  /** out[c] = sum over rows of input[r, c]. input [R, W]; out [W]. (Gradient of a bias.) */
  columnSums(args: { input: Tensor; accumulate: boolean; out: Tensor }): void;

  /** out += scale * input * weight^T. input [R, K]; weight [N, K]; out [R, N]. (LoRA.) */
  matmulAdd(args: { input: Tensor; weight: Matrix; scale: number; out: Tensor }): void;

  /** inputGrad (+)= scale * outGrad * weight. outGrad [R, N]; inputGrad [R, K]. */
  matmulInputGrad(
    args: {
      outGrad: Tensor;
      weight: Matrix;
      scale: number;
      accumulate: boolean;
      inputGrad: Tensor;
    },
  ): void;

  /** weightGrad (+)= scale * outGrad^T * input. */
  matmulWeightGrad(
    args: {
      input: Tensor;
      outGrad: Tensor;
      scale: number;
      accumulate: boolean;
      weightGrad: Matrix;
    },
  ): void;

  /** Place g of expert e: inputGrad[g] = outGrad[g] * weight[e]. outGrad [P, N]; inputGrad [P, K]. */
  expertInputGrad(
    args: { outGrad: Tensor; weight: Matrix; expertStart: Tensor; inputGrad: Tensor },
  ): void;

  /**
   * weightGrad[e] (+)= sum over the expert's places, ascending, of outGrad[g]^T * (input row of g).
   * The input row is g, or groupedPair[g] / choices when `choices` is given.
   */
  expertWeightGrad(
    args: {
      input: Tensor;
      outGrad: Tensor;
      expertStart: Tensor;
      groupedPair: Tensor;
      choices?: number;
      accumulate: boolean;
      weightGrad: Matrix;
    },
  ): void;

  /** out[r] (+)= sum over the row's pairs of input[pairPlace], ascending in place. input [R*k, W]. */
  sumPairs(
    args: {
      input: Tensor;
      pairPlace: Tensor;
      choices: number;
      accumulate: boolean;
      out: Tensor;
    },
  ): void;

  /**
   * Of `combineRows`: inputGrad[place] = expertWeight * outGrad[row], and weightGrad[row, choice] =
   * outGrad[row] . input[place]. Both are written whole.
   */
  combineRowsGrad(
    args: {
      outGrad: Tensor;
      input: Tensor;
      pairPlace: Tensor;
      expertWeight: Tensor;
      inputGrad: Tensor;
      weightGrad: Tensor;
    },
  ): void;

  /** Of `gateTopK`: through the chosen probabilities, none through the choice. [R, E]. */
  gateTopKGrad(
    args: {
      logits: Tensor;
      expertIndex: Tensor;
      expertWeight: Tensor;
      normalize: boolean;
      weightGrad: Tensor;
      accumulate: boolean;
      logitsGrad: Tensor;
    },
  ): void;

  /**
   * Adds to statistics [2, E]: how often each expert was chosen, and the sum of its probability
   * (softmax over all experts). Rows whose rowWeight [R] is 0 do not count.
   */
  routerStatistics(
    args: { logits: Tensor; expertIndex: Tensor; rowWeight: Tensor; statistics: Tensor },
  ): void;

  /**
   * logitsGrad (+)= gradient of sum over rows of rowWeight * (sum_e expertScale[e] * softmax_e +
   * zScale * logsumexp^2). expertScale [E].
   */
  routerLossGrad(
    args: {
      logits: Tensor;
      rowWeight: Tensor;
      expertScale: Tensor;
      zScale: number;
      accumulate: boolean;
      logitsGrad: Tensor;
    },
  ): void;

  /** weightGrad [W] is skipped when missing, inputGrad [R, W] likewise. */
  rmsNormGrad(
    args: {
      input: Tensor;
      weight: Tensor;
      epsilon: number;
      outGrad: Tensor;
      inputGrad?: GradientTarget;
      weightGrad?: GradientTarget;
    },
  ): void;

  /** See `rmsNormGrad`; weightGrad and biasGrad come together. */
  layerNormGrad(
    args: {
      input: Tensor;
      weight: Tensor;
      epsilon: number;
      outGrad: Tensor;
      inputGrad?: GradientTarget;
      weightGrad?: GradientTarget;
      biasGrad?: GradientTarget;
    },
  ): void;

  /** The inverse rotation of `rope`. */
  ropeGrad(
    args: {
      outGrad: Tensor;
      position: Tensor;
      table: Tensor;
      headWidth: number;
      accumulate: boolean;
      inputGrad: Tensor;
    },
  ): void;

  /**
   * Attention without pages. Head h reads kv head h / (heads / kvHeads). logSum [R, heads] is what
   * the gradient recomputes the probabilities from.
   */
  packedAttention(args: AttentionOperands & { logSum: Tensor }): void;

  /** All three gradients are written whole. */
  packedAttentionGrad(
    args: AttentionOperands & {
      logSum: Tensor;
      outGrad: Tensor;
      queryGrad: Tensor;
      keyGrad: Tensor;
      valueGrad: Tensor;
    },
  ): void;

  /** Both gradients are written whole. */
  swigluGrad(
    args: { gate: Tensor; up: Tensor; outGrad: Tensor; gateGrad: Tensor; upGrad: Tensor },
  ): void;

  geluGrad(
    args: { input: Tensor; outGrad: Tensor; accumulate: boolean; inputGrad: Tensor },
  ): void;

  /** tableGrad[rowIndex[r]] += outGrad[r], rows ascending. */
  gatherRowsGrad(args: { outGrad: Tensor; rowIndex: Tensor; tableGrad: Matrix }): void;

  /** sourceGrad[sourceRow[i]] += outGrad[outRow[i]], ascending. See `Ops.copyRows`. */
  copyRowsGrad(
    args: {
      outGrad: Tensor;
      outRow?: Tensor;
      sourceGrad: Tensor;
      sourceRow?: Tensor;
      width: number;
      rowCount: number;
    },
  ): void;

  /** out[row[i]] = 0 for rows of `width`; a missing index means i. */
  zeroRows(args: { out: Tensor; row?: Tensor; width: number; rowCount: number }): void;

  /** Scores targets without holding all logits. */
  headLogprobs(args: HeadOperands): void;

  /**
   * Gradient of the sum over rows of coefficient[r] * logprob[r]; computes logprob and entropy on
   * the way. weightGrad is skipped when missing, inputGrad likewise.
   */
  headGrad(
    args: HeadOperands & {
      coefficient: Tensor;
      inputGrad?: GradientTarget;
      weightGrad?: { readonly matrix: Matrix; readonly accumulate: boolean };
    },
  ): void;

  /** partial[i] = sum of squares of the i-th block of `SQUARE_BLOCK` elements, summed in float64. */
  squareSums(args: { input: FloatStore; partial: Tensor }): void;

  /**
   * norm[0] = square root of the sum of all partials, norm[1] = min(1, normMax / (norm + 1e-6)).
   * normMax 0 means no bound.
   */
  clipFactor(args: { partial: Tensor; normMax: number; norm: Tensor }): void;

  /**
   * One step of AdamW with decoupled decay; norm[1] multiplies the gradient. All stores have one
   * size. `step` counts from 1.
   */
  adamW(
    args: {
      weights: FloatStore;
      gradient: FloatStore;
      first: FloatStore;
      second: FloatStore;
      norm: Tensor;
      rate: number;
      decay: number;
      beta1: number;
      beta2: number;
      epsilon: number;
      step: number;
    },
  ): void;
}

/** Elements whose squares are summed together, see `squareSums`. */
export const SQUARE_BLOCK = 4096;

/** Partial sums of a store of `count` elements. */
export function squareBlocks(count: number): number {
  return Math.ceil(count / SQUARE_BLOCK);
}

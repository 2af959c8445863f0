/**
 * The op vocabulary: the model is written once against it, and every backend executes the same
 * recorded program. Shapes never depend on computed data; outputs are passed in, never allocated;
 * a row's result depends on that row alone; every sum starts at 0 and runs in one fixed order.
 *
 * Notation: R rows, K input width, N output width. Tensors are f32 unless said otherwise. An input
 * may be the output only where "in place" is said. R may be 0 everywhere.
 */
import type { Tensor } from "@/tensor/tensor.ts";
import type { KvCache, Matrix } from "./backend.ts";

export interface Ops {
  /** out[r] = table row rowIndex[r]. table [V, W]; rowIndex i32 [R]; out [R, W]. */
  gatherRows(args: { table: Matrix; rowIndex: Tensor; out: Tensor }): void;

  /**
   * out[outRow[i]] = source[sourceRow[i]] for i < R. A missing index means i. Row width is that of
   * `width` f32 values; source and out are read as rows of that width. sourceRow, outRow i32 [R].
   * outRow entries are distinct. (2x2 token merge, visual-token splice, last-row selection.)
   */
  copyRows(args: {
    source: Tensor;
    sourceRow?: Tensor;
    out: Tensor;
    outRow?: Tensor;
    width: number;
    rowCount: number;
  }): void;

  /** out = input * weight^T + bias. input [R, K]; weight [N, K]; bias [N]; out [R, N]. */
  matmul(args: { input: Tensor; weight: Matrix; bias?: Tensor; out: Tensor }): void;

  /** Root-mean-square norm over the last axis: x / sqrt(mean(x^2) + epsilon) * weight. In place. */
  rmsNorm(args: { input: Tensor; weight: Tensor; epsilon: number; out: Tensor }): void;

  /** (x - mean) / sqrt(var + epsilon) * weight + bias over the last axis. In place. */
  layerNorm(
    args: { input: Tensor; weight: Tensor; bias: Tensor; epsilon: number; out: Tensor },
  ): void;

  /**
   * Rotary positions, rotate-half layout: dimension d pairs with d + headWidth/2.
   * input [R, heads * headWidth]; position i32 [R]; table [positions, headWidth] holds headWidth/2
   * cosines, then as many sines. In place.
   */
  rope(
    args: { input: Tensor; position: Tensor; table: Tensor; headWidth: number; out: Tensor },
  ): void;

  /** Stores key and value [R, kvHeads * headWidth] at slot i32 [R] of one layer; slot < 0 skips. */
  writeKv(args: { cache: KvCache; layer: number; key: Tensor; value: Tensor; slot: Tensor }): void;

  /**
   * Causal attention over pages. query, out [R, heads * headWidth]. Row r attends to the first
   * rowLength[r] tokens of sequence rowSequence[r] (i32 [R]); token t lives in page
   * pageTable[sequence, t / pageTokens] (i32 [S, P]). Head h reads kv head h / (heads / kvHeads).
   */
  attention(args: {
    query: Tensor;
    cache: KvCache;
    layer: number;
    rowSequence: Tensor;
    rowLength: Tensor;
    pageTable: Tensor;
    heads: number;
    scale: number;
    out: Tensor;
  }): void;

  /**
   * Full (bidirectional) attention inside consecutive segments of `segmentRows` rows.
   * query, key, value, out [R, heads * headWidth]; R is a multiple of segmentRows. `rounded`:
   * scores need no more than keys in q8 and queries in int8, as in a product with quantised
   * weights; an executor may take whole ones.
   */
  segmentAttention(args: {
    query: Tensor;
    key: Tensor;
    value: Tensor;
    segmentRows: number;
    heads: number;
    scale: number;
    rounded: boolean;
    out: Tensor;
  }): void;

  /** out = silu(gate) * up, elementwise. In place on gate or up. */
  swiglu(args: { gate: Tensor; up: Tensor; out: Tensor }): void;

  /** Exact (erf) GELU. In place. */
  gelu(args: { input: Tensor; out: Tensor }): void;

  /** out[i] = left[i] + right[i mod size(right)]; size(right) divides size(left). In place. */
  add(args: { left: Tensor; right: Tensor; out: Tensor }): void;

  /**
   * MoE gate: softmax over all experts in float32, then the k largest (ties: lower index first).
   * logits [R, E]; expertIndex i32 [R, k]; expertWeight [R, k], divided by their sum if normalize.
   */
  gateTopK(args: {
    logits: Tensor;
    k: number;
    normalize: boolean;
    expertIndex: Tensor;
    expertWeight: Tensor;
  }): void;

  /**
   * Counting sort of the R*k (row, choice) pairs by expert, rows ascending inside an expert.
   * expertIndex i32 [R, k] -> expertStart i32 [E + 1]; groupedPair i32 [R*k] (pair = row*k + choice
   * at each sorted place); pairPlace i32 [R*k] (the inverse).
   */
  groupByExpert(args: {
    expertIndex: Tensor;
    experts: number;
    expertStart: Tensor;
    groupedPair: Tensor;
    pairPlace: Tensor;
  }): void;

  /**
   * Grouped matmul: place g in [expertStart[e], expertStart[e+1]) uses expert e's weight.
   * Input row is g itself, or groupedPair[g] / k when `choices` = k is given. weight [E, N, K];
   * input [R, K] (with choices) or [R*k, K]; out [R*k, N].
   */
  expertMatmul(args: {
    input: Tensor;
    weight: Matrix;
    expertStart: Tensor;
    groupedPair: Tensor;
    choices?: number;
    out: Tensor;
  }): void;

  /**
   * out[r] = sum over the row's k choices of expertWeight * input[pairPlace], added in ascending
   * place, i.e. in expert order. input [R*k, W]; pairPlace i32 [R*k]; expertWeight [R, k]; out [R, W].
   */
  combineRows(
    args: { input: Tensor; pairPlace: Tensor; expertWeight: Tensor; out: Tensor },
  ): void;

  /**
   * Pixels to patch rows. tiles u8 [T, S, S, 3] -> out [T * (S/P)^2, 3 * P * P], channel-major
   * inside a row like a conv weight [D, 3, P, P]; value = bf16((u8 / 255 - mean) / deviation) with
   * float32 steps, as the reference feeds bfloat16 pixels.
   */
  patchify(args: {
    tiles: Tensor;
    patchSize: number;
    mean: readonly [number, number, number];
    deviation: readonly [number, number, number];
    out: Tensor;
  }): void;

  /**
   * Draws one token per row. logits [R, V] are overwritten. Order: adjustments (repetition penalty:
   * logit > 0 ? logit / penalty : logit * penalty; then + add) -> mask -> temperature -> top-k ->
   * top-p -> min-p -> draw. All arithmetic on probabilities is f64 in ascending-id or sorted order.
   *
   * params [R, 8] f32: temperature (0 = greedy, ties: lower id), topK (0 = off), topP, minP,
   * uniform in [0,1), forcedId (-1 = draw; else this id is "chosen"), maskIndex (-1 = none),
   * reserved. mask i32 [M, ceil(V / 32)]: bit (id & 31) of word id >> 5 is 1 when the id is allowed.
   * adjustStart i32 [R + 1] into adjustToken i32 [A], adjustPenalty [A], adjustAdd [A].
   * top-p keeps the smallest set of largest probabilities whose sum reaches topP (ties: lower id
   * first); min-p drops what is below minP * max. The draw walks the kept tokens sorted by
   * descending probability (ties: lower id), or ids ascending when no top-k/top-p is active, and
   * takes the first whose cumulative sum exceeds uniform * total.
   *
   * Outputs: id i32 [R]; logprob [R] = log-softmax of the *unmodified* logits at id; candidateId
   * i32 [R, C] and candidateLogprob [R, C], the C largest unmodified logits (ties: lower id).
   */
  sample(args: {
    logits: Tensor;
    params: Tensor;
    mask: Tensor;
    adjustStart: Tensor;
    adjustToken: Tensor;
    adjustPenalty: Tensor;
    adjustAdd: Tensor;
    id: Tensor;
    logprob: Tensor;
    candidateId: Tensor;
    candidateLogprob: Tensor;
  }): void;
}

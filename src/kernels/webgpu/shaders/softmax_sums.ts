/**
 * The arithmetic of attention, which all its kernels share, so that a row gives the same bits in
 * each of them. Keys come in spans of `SPAN_TOKENS`, spans in chunks of `CHUNK_TOKENS`, both in
 * ascending order of tokens from the first. A chunk adds to its span under a running maximum; a
 * span's sums start at zero and are then merged into the row's. Spans can thus be computed apart.
 */

/** Tokens that are weighted together. */
export const CHUNK_TOKENS = 64;
/** Tokens that one workgroup of a long row attends to; part of the numeric class. */
export const SPAN_TOKENS = 512;
/** Smaller than any score: the maximum of nothing. */
export const LEAST = "-3.0e38";

/**
 * Needs \`exponential\`. (largest, total) of a row and of one more span: the new pair, then what the
 * row's and the span's sums are multiplied with.
 */
export const mergeSpans = /* wgsl */ `
struct Merged { largest: f32, total: f32, row_factor: f32, span_factor: f32 }
fn merge_spans(row: vec2<f32>, span: vec2<f32>) -> Merged {
  let peak = max(row.x, span.x);
  let row_factor = exponential(row.x - peak);
  let span_factor = exponential(span.x - peak);
  return Merged(peak, fma(row.y, row_factor, span.y * span_factor), row_factor, span_factor);
}
fn merge_sum(row: f32, span: f32, merged: Merged) -> f32 {
  return fma(row, merged.row_factor, span * merged.span_factor);
}`;

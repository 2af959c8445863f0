/** Attention over packed rows and its gradient, head by head in float64. */

interface Operands {
  readonly query: Float32Array;
  readonly key: Float32Array;
  readonly value: Float32Array;
  readonly rowLength: Int32Array | undefined;
  readonly segmentRows: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headWidth: number;
  readonly scale: number;
  readonly out: Float32Array;
  /** [R, heads] */
  readonly logSum: Float32Array;
}

/** Rows that row r attends to: [first, end). */
function rangeOf({ rowLength, segmentRows }: Operands, r: number): [number, number] {
  if (rowLength) return [r + 1 - rowLength[r]!, r + 1];
  const first = r - r % segmentRows;
  return [first, first + segmentRows];
}

/** Places of a head row in query and out, and of a kv head row in key and value. */
function places(operands: Operands, head: number) {
  const { heads, kvHeads, headWidth } = operands;
  const kvHead = Math.floor(head / (heads / kvHeads));
  return {
    queryAt: (row: number) => (row * heads + head) * headWidth,
    keyAt: (row: number) => (row * kvHeads + kvHead) * headWidth,
  };
}

function dot(
  left: Float32Array,
  right: Float32Array,
  at: { left: number; right: number; width: number },
): number {
  let sum = 0;
  for (let d = 0; d < at.width; d++) sum += left[at.left + d]! * right[at.right + d]!;
  return sum;
}

/** See `TrainingOps.packedAttention`. */
export function packedAttention(operands: Operands): void {
  const { query, key, value, heads, headWidth: width, scale, out, logSum } = operands;
  const rows = query.length / (heads * width);
  for (let head = 0; head < heads; head++) {
    const { queryAt, keyAt } = places(operands, head);
    for (let r = 0; r < rows; r++) {
      const [first, end] = rangeOf(operands, r);
      const scores = new Float64Array(end - first);
      for (let t = first; t < end; t++) {
        scores[t - first] = scale * dot(query, key, { left: queryAt(r), right: keyAt(t), width });
      }
      const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
      let total = 0;
      for (const score of scores) total += Math.exp(score - largest);
      const sums = new Float64Array(width);
      for (let t = first; t < end; t++) {
        const weight = Math.exp(scores[t - first]! - largest) / total;
        for (let d = 0; d < width; d++) sums[d]! += weight * value[keyAt(t) + d]!;
      }
      out.set(sums, queryAt(r));
      logSum[r * heads + head] = largest + Math.log(total);
    }
  }
}

/** See `TrainingOps.packedAttentionGrad`. */
export function packedAttentionGrad(
  operands: Operands & {
    readonly outGrad: Float32Array;
    readonly queryGrad: Float32Array;
    readonly keyGrad: Float32Array;
    readonly valueGrad: Float32Array;
  },
): void {
  const { query, key, value, heads, headWidth: width, scale, out, logSum, outGrad } = operands;
  const rows = query.length / (heads * width);
  const keySums = new Float64Array(key.length);
  const valueSums = new Float64Array(value.length);
  const querySums = new Float64Array(query.length);
  for (let head = 0; head < heads; head++) {
    const { queryAt, keyAt } = places(operands, head);
    for (let r = 0; r < rows; r++) {
      const [first, end] = rangeOf(operands, r);
      const q = queryAt(r);
      const weighted = dot(outGrad, out, { left: q, right: q, width });
      for (let t = first; t < end; t++) {
        const k = keyAt(t);
        const score = scale * dot(query, key, { left: q, right: k, width });
        const probability = Math.exp(score - logSum[r * heads + head]!);
        const gradient = dot(outGrad, value, { left: q, right: k, width }) - weighted;
        const scoreGrad = scale * probability * gradient;
        for (let d = 0; d < width; d++) {
          querySums[q + d]! += scoreGrad * key[k + d]!;
          keySums[k + d]! += scoreGrad * query[q + d]!;
          valueSums[k + d]! += probability * outGrad[q + d]!;
        }
      }
    }
  }
  operands.queryGrad.set(querySums);
  operands.keyGrad.set(keySums);
  operands.valueGrad.set(valueSums);
}

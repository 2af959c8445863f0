/**
 * Learned positions for other grids than the trained one (AnyRes): bicubic interpolation as
 * PyTorch's `interpolate(mode="bicubic", align_corners=False)` without antialiasing.
 */

/** Coefficient of PyTorch's cubic convolution kernel. */
const A = -0.75;

/** Kernel weight at distance |x| in [0, 1]. */
function near(x: number): number {
  return ((A + 2) * x - (A + 3)) * x * x + 1;
}

/** Kernel weight at distance |x| in [1, 2]. */
function far(x: number): number {
  return ((A * x - 5 * A) * x + 8 * A) * x - 4 * A;
}

interface Taps {
  /** Four source indexes per output, clamped to the border. */
  readonly index: Int32Array;
  readonly weight: Float32Array;
}

function cubicTaps(inSize: number, outSize: number): Taps {
  const index = new Int32Array(outSize * 4);
  const weight = new Float32Array(outSize * 4);
  const scale = Math.fround(inSize / outSize);
  for (let o = 0; o < outSize; o++) {
    const centre = Math.fround(scale * (o + 0.5) - 0.5);
    const first = Math.floor(centre);
    const t = Math.fround(centre - first);
    weight.set([far(t + 1), near(t), near(1 - t), far(2 - t)], o * 4);
    for (let k = 0; k < 4; k++) {
      index[o * 4 + k] = Math.min(inSize - 1, Math.max(0, first - 1 + k));
    }
  }
  return { index, weight };
}

/**
 * table [side * side, width] (row-major grid) -> [rows * columns, width].
 * Equal to the input when the grid is unchanged.
 */
export function interpolatePositions(
  table: Float32Array,
  grid: { side: number; width: number; rows: number; columns: number },
): Float32Array {
  const { side, width, rows, columns } = grid;
  if (table.length !== side * side * width) {
    throw new RangeError(`Position table has ${table.length} values, expected ${side}² × ${width}`);
  }
  if (rows === side && columns === side) return table.slice();
  const vertical = cubicTaps(side, rows);
  const horizontal = cubicTaps(side, columns);
  const out = new Float32Array(rows * columns * width);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      for (let ky = 0; ky < 4; ky++) {
        const row = vertical.index[y * 4 + ky]!;
        for (let kx = 0; kx < 4; kx++) {
          const factor = vertical.weight[y * 4 + ky]! * horizontal.weight[x * 4 + kx]!;
          const source = (row * side + horizontal.index[x * 4 + kx]!) * width;
          const target = (y * columns + x) * width;
          for (let d = 0; d < width; d++) out[target + d]! += factor * table[source + d]!;
        }
      }
    }
  }
  return out;
}

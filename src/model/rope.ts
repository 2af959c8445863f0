/** Rotary position table. Angles are float32 products, as in the PyTorch reference. */

/**
 * Table [positions, headWidth]: headWidth/2 cosines, then as many sines, of
 * position * theta^(-2d/headWidth).
 */
export function ropeTable(positions: number, headWidth: number, theta: number): Float32Array {
  const half = headWidth / 2;
  const inverse = Float32Array.from(
    { length: half },
    (_, d) => 1 / Math.fround(Math.pow(theta, Math.fround((2 * d) / headWidth))),
  );
  const table = new Float32Array(positions * headWidth);
  for (let position = 0; position < positions; position++) {
    for (let d = 0; d < half; d++) {
      const angle = Math.fround(position * inverse[d]!);
      table[position * headWidth + d] = Math.cos(angle);
      table[position * headWidth + half + d] = Math.sin(angle);
    }
  }
  return table;
}

/** Pixels to patch rows. */
import { normalizationTable } from "../normalization.ts";

const CHANNELS = 3;

/** See `Ops.patchify`. tiles [T, S, S, 3]. */
export function patchify(
  args: {
    tiles: Uint8Array;
    tileSize: number;
    patchSize: number;
    mean: readonly [number, number, number];
    deviation: readonly [number, number, number];
    out: Float32Array;
  },
): void {
  const { tiles, tileSize, patchSize, out } = args;
  const tables = [0, 1, 2].map((c) => normalizationTable(args.mean[c]!, args.deviation[c]!));
  const tileCount = tiles.length / (tileSize * tileSize * CHANNELS);
  let place = 0;
  for (let tile = 0; tile < tileCount; tile++) {
    for (let top = 0; top < tileSize; top += patchSize) {
      for (let left = 0; left < tileSize; left += patchSize) {
        for (let channel = 0; channel < CHANNELS; channel++) {
          for (let y = top; y < top + patchSize; y++) {
            for (let x = left; x < left + patchSize; x++) {
              const pixel = (tile * tileSize + y) * tileSize + x;
              out[place++] = tables[channel]![tiles[pixel * CHANNELS + channel]!]!;
            }
          }
        }
      }
    }
  }
}

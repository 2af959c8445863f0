/**
 * Growth in resolution: the same model for larger tiles. Patches keep their size, so only the
 * learned positions change; they are interpolated. A tower that starts on small tiles sees several
 * times as many pictures in the same time.
 */
import { assert } from "@/assert.ts";
import { type ModelTensor, type WholeModel, withConfig } from "./model_folder.ts";

export function growResolution(model: WholeModel, tileSize: number): WholeModel {
  const { config } = model;
  const { patchSize, hiddenWidth } = config.vision;
  assert(tileSize % (patchSize * config.mergeFactor) === 0, `tiles of ${tileSize} pixels`);
  if (tileSize === config.preprocess.tileSize) return model;
  const [from, to] = [config.preprocess.tileSize / patchSize, tileSize / patchSize];
  const position = model.tensors.get("vision.position");
  assert(position, "a model has positions");
  const tensors = new Map<string, ModelTensor>(model.tensors);
  tensors.set("vision.position", {
    shape: [1, to * to, hiddenWidth],
    values: interpolatedPositions(position.values, { from, to, width: hiddenWidth }),
  });
  const grown = { ...config, preprocess: { ...config.preprocess, tileSize } };
  return withConfig({ ...model, tensors }, grown);
}

/** [from * from, width] -> [to * to, width], linear between the middles of patches. */
export function interpolatedPositions(
  values: Float32Array,
  { from, to, width }: { from: number; to: number; width: number },
): Float32Array {
  const out = new Float32Array(to * to * width);
  const places = Array.from({ length: to }, (_, i) => {
    const at = Math.min(from - 1, Math.max(0, (i + 0.5) * from / to - 0.5));
    const low = Math.min(from - 1, Math.floor(at));
    return { low, high: Math.min(from - 1, low + 1), share: at - low };
  });
  for (const [row, y] of places.entries()) {
    for (const [column, x] of places.entries()) {
      for (let k = 0; k < width; k++) {
        const value = (r: number, c: number) => values[(r * from + c) * width + k]!;
        const top = value(y.low, x.low) * (1 - x.share) + value(y.low, x.high) * x.share;
        const bottom = value(y.high, x.low) * (1 - x.share) + value(y.high, x.high) * x.share;
        out[(row * to + column) * width + k] = top * (1 - y.share) + bottom * y.share;
      }
    }
  }
  return out;
}

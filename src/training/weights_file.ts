/**
 * Weights in the layout of a checkpoint in Hugging Face spelling: parts of fused tensors assembled,
 * shapes as released, so that PyTorch's reference loads what was trained here.
 */
import type { Backend } from "@/kernels/backend.ts";
import type { ModelConfig } from "@/model/config.ts";
import { releasedName } from "@/weights/names.ts";
import {
  encodeSafetensors,
  type TensorToWrite,
  WEIGHTS_METADATA,
} from "@/weights/safetensors_writer.ts";
import { elementCount } from "@/tensor/dtype.ts";
import { f32ToBf16 } from "@/tensor/half.ts";
import { mergedValues } from "./low_rank.ts";
import type { ParameterSet } from "./parameter_set.ts";

/** A stored tensor that is being put together. */
interface StoredTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** All weights by canonical stored name, low-rank additions added. Waits for recorded ops. */
async function storedTensors(
  backend: Backend,
  set: ParameterSet,
  config: ModelConfig,
): Promise<Map<string, StoredTensor>> {
  const stored = new Map<string, StoredTensor>();
  for (const parameter of set.parameters) {
    const { store, info: { places } } = parameter;
    if (places.length === 0) continue;
    const values = await mergedValues(backend, set, parameter);
    const partSize = values.length / places.length;
    const width = store.kind === "matrix" ? store.matrix.columns : 1;
    for (const [i, { name, first, rows }] of places.entries()) {
      const held = stored.get(name);
      const shape = held?.shape ??
        releasedShape(name, store.kind === "matrix" ? [rows, width] : [rows], config);
      const whole = held ?? { shape, values: new Float32Array(elementCount(shape)) };
      whole.values.set(values.subarray(i * partSize, (i + 1) * partSize), first * width);
      stored.set(name, whole);
    }
  }
  return stored;
}

/** The few tensors whose released shape is not [rows, columns]. */
export function releasedShape(
  name: string,
  shape: readonly number[],
  config: ModelConfig,
): number[] {
  const { hiddenWidth, patchSize } = config.vision;
  const [rows = 1, columns = 1] = shape;
  if (name === "vision.patch.weight") return [rows, 3, patchSize, patchSize];
  if (name === "vision.position") return [1, rows / hiddenWidth, hiddenWidth];
  const { moe } = config.decoder;
  if (moe && /\.experts\.(gateUp|down)$/.test(name)) {
    return [moe.experts, rows / moe.experts, columns];
  }
  return [...shape];
}

/** One safetensors file with all weights. F32 keeps every bit, BF16 is what is released. */
export async function encodeWeights(
  backend: Backend,
  set: ParameterSet,
  options: { config: ModelConfig; dtype: "F32" | "BF16" },
): Promise<Uint8Array> {
  const { config, dtype } = options;
  const tensors: TensorToWrite[] = [];
  for (const [name, { shape, values }] of await storedTensors(backend, set, config)) {
    const bytes = dtype === "F32"
      ? new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
      : new Uint8Array(Uint16Array.from(values, f32ToBf16).buffer);
    tensors.push({ name: releasedName(name), dtype, shape, bytes });
  }
  tensors.sort((a, b) => a.name < b.name ? -1 : 1);
  return encodeSafetensors(tensors, WEIGHTS_METADATA);
}

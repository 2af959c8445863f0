/**
 * Weights drawn from a seed by tensor name: real shapes for benchmarks without a download. The
 * same name and shape give the same bytes on every machine; every layer has its own.
 */
import { hashWords, mix32 } from "@/random.ts";
import { elementCount } from "@/tensor/dtype.ts";
import { f32ToBf16 } from "@/tensor/half.ts";
import type { TensorName } from "./names.ts";
import type { StoredTensor } from "./safetensors.ts";
import type { ByteSource } from "./source.ts";

/** Distinct magnitudes; a power of two. */
const LEVELS = 1024;

/** Seed of a tensor: a hash of its canonical name. */
function seedOf(name: TensorName): number {
  return hashWords(...new TextEncoder().encode(name));
}

/**
 * A bfloat16 tensor: norms are 1, biases and linears uniform with the deviation that keeps
 * activations near unit size (1 / sqrt of the input width), the embedding with deviation 0.02.
 */
export function syntheticTensor(name: TensorName, shape: readonly number[]): StoredTensor {
  const sizeBytes = elementCount(shape) * 2;
  const norm = shape.length === 1 && /[nN]orm\.weight$/.test(name);
  const deviation = name === "decoder.embedding" ? 0.02 : (shape.at(-1) ?? 1) ** -0.5;
  // A uniform distribution on [-a, a] has deviation a / sqrt(3).
  const levels = Uint16Array.from(
    { length: LEVELS },
    (_, i) => norm ? 0x3f80 : f32ToBf16((2 * (i + 0.5) / LEVELS - 1) * deviation * Math.sqrt(3)),
  );
  return {
    name,
    dtype: "BF16",
    shape,
    source: new SyntheticSource(name, sizeBytes, levels),
    offset: 0,
    sizeBytes,
  };
}

class SyntheticSource implements ByteSource {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #seed: number;
  readonly #levels: Uint16Array;

  constructor(name: string, sizeBytes: number, levels: Uint16Array) {
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.#seed = seedOf(name);
    this.#levels = levels;
  }

  read(offset: number, length: number): Promise<Uint8Array> {
    const first = offset / 2;
    const values = new Uint16Array(length / 2);
    const levels = this.#levels;
    for (let i = 0; i < values.length; i++) {
      values[i] = levels[mix32(this.#seed + first + i) & (LEVELS - 1)]!;
    }
    return Promise.resolve(new Uint8Array(values.buffer));
  }

  close(): void {}
}

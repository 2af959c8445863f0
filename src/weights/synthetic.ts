/**
 * Weights drawn from a seed by tensor name: real shapes for benchmarks without a download. The
 * same name, shape and format give the same bytes on every machine; every layer has its own.
 * Quantised weights are drawn as codes and scales in the packed layout, so nothing is rounded.
 */
import { assert } from "@/assert.ts";
import {
  isQuantised,
  PANEL_ROWS,
  panelBytes,
  type QuantisedFormat,
  zeroCode,
} from "@/kernels/matrix_layout.ts";
import type { MatrixFormat } from "@/kernels/backend.ts";
import { hashWords, mix32 } from "@/random.ts";
import { elementCount } from "@/tensor/dtype.ts";
import { f32ToBf16 } from "@/tensor/half.ts";
import type { TensorName } from "./names.ts";
import type { StoredTensor } from "./safetensors.ts";
import type { ByteSource } from "./source.ts";

/** Distinct magnitudes; a power of two, so that one hash gives two values. */
const LEVELS = 1024;
/** Columns of one scale; see `kernels/matrix_layout.ts`. */
const GROUP = 32;

/** Seed of a tensor: a hash of its canonical name and what is drawn for it. */
function seedOf(name: TensorName, what: string): number {
  return hashWords(...new TextEncoder().encode(`${name}/${what}`));
}

/** Deviation that keeps activations near unit size: 1 / sqrt of the input width. */
function deviationOf(name: TensorName, shape: readonly number[]): number {
  return name === "decoder.embedding" ? 0.02 : (shape.at(-1) ?? 1) ** -0.5;
}

/** A bfloat16 tensor: norms are 1, biases and linears uniform with zero mean. */
export function syntheticTensor(name: TensorName, shape: readonly number[]): StoredTensor {
  const sizeBytes = elementCount(shape) * 2;
  const norm = shape.length === 1 && /[nN]orm\.weight$/.test(name);
  const deviation = deviationOf(name, shape);
  // A uniform distribution on [-a, a] has deviation a / sqrt(3).
  const levels = Uint16Array.from(
    { length: LEVELS },
    (_, i) => norm ? 0x3f80 : f32ToBf16((2 * (i + 0.5) / LEVELS - 1) * deviation * Math.sqrt(3)),
  );
  const source = new SyntheticSource({ name, sizeBytes, levels, deviation });
  return { name, dtype: "BF16", shape, source, offset: 0, sizeBytes };
}

class SyntheticSource implements ByteSource {
  readonly name: string;
  readonly sizeBytes: number;
  readonly deviation: number;
  readonly #seed: number;
  readonly #levels: Uint16Array;

  constructor(tensor: {
    name: string;
    sizeBytes: number;
    levels: Uint16Array;
    deviation: number;
  }) {
    this.name = tensor.name;
    this.sizeBytes = tensor.sizeBytes;
    this.deviation = tensor.deviation;
    this.#levels = tensor.levels;
    this.#seed = seedOf(tensor.name, "bf16");
  }

  read(offset: number, length: number): Promise<Uint8Array> {
    return Promise.try(() => this.#draw(offset, length));
  }

  readInto(offset: number, target: Uint8Array): Promise<void> {
    return Promise.try(() => target.set(this.#draw(offset, target.byteLength)));
  }

  close(): void {}

  #draw(offset: number, length: number): Uint8Array {
    assert(offset % 2 === 0 && length % 2 === 0, `${length} bytes at ${offset} of bfloat16`);
    const first = offset / 2;
    // One element more in front when the first is the second of its pair.
    const skipped = first % 2;
    const values = new Uint16Array(Math.ceil((length / 2 + skipped) / 2) * 2);
    const levels = this.#levels;
    const seed = this.#seed + (first - skipped) / 2;
    for (let i = 0; i < values.length; i += 2) {
      const hash = mix32(seed + i / 2);
      values[i] = levels[hash & (LEVELS - 1)]!;
      values[i + 1] = levels[(hash >>> 16) & (LEVELS - 1)]!;
    }
    return new Uint8Array(values.buffer, 2 * skipped, length);
  }
}

/** Rows of a tensor to draw as packed panels; `firstRow` counts the tensor's own rows. */
export interface PanelsToDraw {
  readonly format: QuantisedFormat;
  readonly firstRow: number;
  readonly columns: number;
}

/**
 * Whether a tensor's rows can be drawn as panels: they are synthetic, the format is quantised, and
 * no panel or group has padding.
 */
export function drawsPanels(
  tensor: StoredTensor,
  place: { format: MatrixFormat; firstRow: number; rows: number; columns: number },
): boolean {
  return tensor.source instanceof SyntheticSource && isQuantised(place.format) &&
    place.firstRow % PANEL_ROWS === 0 && place.rows % PANEL_ROWS === 0 &&
    place.columns % GROUP === 0;
}

/**
 * Fills `bytes` with whole panels: uniform codes without the lowest, so that their mean is the code
 * of zero, and the one scale that gives the tensor's deviation.
 */
export function drawPanels(tensor: StoredTensor, place: PanelsToDraw, bytes: Uint8Array): void {
  const { source, name } = tensor;
  assert(source instanceof SyntheticSource, `${name} is not synthetic`);
  const { format, firstRow, columns } = place;
  const size = panelBytes({ format, columns });
  assert(bytes.byteLength % size === 0, `${bytes.byteLength} bytes in panels of ${size}`);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const firstWord = firstRow / PANEL_ROWS * size / 4;
  const seed = seedOf(name, format);
  if (format === "q8") drawQ8(words, seed + firstWord);
  else drawQ4(words, seed + firstWord);
  // The scales lie in front of each group's codes.
  const bits = f32ToBf16(source.deviation / codeDeviation(format));
  const groupWords = size / 4 / (columns / GROUP);
  for (let at = 0; at < words.length; at += groupWords) {
    words.fill((bits | bits << 16) >>> 0, at, at + PANEL_ROWS / 2);
  }
}

function drawQ8(words: Uint32Array, seed: number): void {
  for (let i = 0; i < words.length; i++) {
    const codes = mix32(seed + i) & 0x7f7f7f7f;
    const zeros = ~(codes + 0x7f7f7f7f) & 0x80808080;
    words[i] = codes | zeros >>> 1;
  }
}

function drawQ4(words: Uint32Array, seed: number): void {
  for (let i = 0; i < words.length; i++) {
    const codes = mix32(seed + i);
    const either = codes | codes >>> 2;
    const zeros = ~(either | either >>> 1) & 0x11111111;
    words[i] = codes | zeros << 3;
  }
}

/** Deviation of the codes drawn above: uniform over -z+1 … z-1, zero twice. */
function codeDeviation(format: QuantisedFormat): number {
  const zero = zeroCode[format];
  let squares = 0;
  for (let code = 1; code < zero; code++) squares += 2 * code * code;
  return Math.sqrt(squares / (2 * zero));
}

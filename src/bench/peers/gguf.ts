/**
 * Writes a GGUF file of a Qwen3 shape with random weights, for engines that read that format. The
 * vocabulary is made up; every tensor has its own bytes. Format: ggml's docs/gguf.md, version 3.
 */
import { assert } from "@/assert.ts";
import type { DecoderConfig } from "@/model/config.ts";
import { seededRandom } from "@/random.ts";
import { f32ToF16 } from "@/tensor/half.ts";

export type GgufFormat = "q4_0" | "q8_0";

/** The sizes that the file's metadata names. */
export interface GgufShape {
  readonly layers: number;
  readonly hiddenWidth: number;
  readonly intermediateWidth: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headWidth: number;
  readonly vocabularySize: number;
  readonly ropeTheta: number;
  readonly epsilon: number;
  readonly contextTokens: number;
}

const ALIGNMENT = 32;
const GROUP = 32;
/** ggml's numbers of tensor types and bytes of a group of 32 weights: a half scale, then codes. */
const formats = {
  q4_0: { type: 2, groupBytes: 18, fileType: 2, codeDeviation: 4.6 },
  q8_0: { type: 8, groupBytes: 34, fileType: 7, codeDeviation: 74 },
} as const;
const F32_TYPE = 0;
/** Most random groups drawn for one width; larger tensors repeat them, each from its own place. */
const POOL_GROUPS_MAX = 1 << 19;

const valueType = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;

type Value =
  | { readonly type: "u32" | "i32" | "f32" | "bool"; readonly value: number }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "strings"; readonly value: readonly string[] }
  | { readonly type: "integers"; readonly value: readonly number[] };

/** Little-endian bytes that grow. */
class ByteWriter {
  #bytes = new Uint8Array(1 << 16);
  #view = new DataView(this.#bytes.buffer);
  length = 0;

  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }

  /** Makes room; the bytes and their view may be new ones afterwards. */
  #reserve(count: number): number {
    const at = this.length;
    this.length += count;
    if (this.length > this.#bytes.length) {
      const grown = new Uint8Array(2 * this.length);
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }

  u32(value: number): void {
    const at = this.#reserve(4);
    this.#view.setUint32(at, value, true);
  }

  i32(value: number): void {
    const at = this.#reserve(4);
    this.#view.setInt32(at, value, true);
  }

  u64(value: number): void {
    const at = this.#reserve(8);
    this.#view.setBigUint64(at, BigInt(value), true);
  }

  f32(value: number): void {
    const at = this.#reserve(4);
    this.#view.setFloat32(at, value, true);
  }

  u8(value: number): void {
    const at = this.#reserve(1);
    this.#view.setUint8(at, value);
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.u64(bytes.length);
    const at = this.#reserve(bytes.length);
    this.#bytes.set(bytes, at);
  }
}

function writeValue(out: ByteWriter, value: Value): void {
  switch (value.type) {
    case "string":
      out.u32(valueType.string);
      return out.string(value.value);
    case "strings":
    case "integers":
      out.u32(valueType.array);
      out.u32(value.type === "strings" ? valueType.string : valueType.i32);
      out.u64(value.value.length);
      if (value.type === "strings") { for (const text of value.value) out.string(text); }
      else for (const number of value.value) out.i32(number);
      return;
    case "bool":
      out.u32(valueType.bool);
      return out.u8(value.value);
    default:
      out.u32(valueType[value.type]);
      return out[value.type](value.value);
  }
}

interface TensorEntry {
  readonly name: string;
  /** Fastest dimension first, as GGUF has it. */
  readonly dimensions: readonly number[];
  readonly quantised: boolean;
}

function tensorsOf(shape: GgufShape): TensorEntry[] {
  const { hiddenWidth: width, intermediateWidth, heads, kvHeads, headWidth } = shape;
  const matrix = (name: string, rows: number, columns: number): TensorEntry => {
    return { name, dimensions: [columns, rows], quantised: true };
  };
  const vector = (name: string, size: number): TensorEntry => {
    return { name, dimensions: [size], quantised: false };
  };
  const tensors = [
    matrix("token_embd.weight", shape.vocabularySize, width),
    vector("output_norm.weight", width),
  ];
  for (let layer = 0; layer < shape.layers; layer++) {
    const at = (name: string) => `blk.${layer}.${name}.weight`;
    tensors.push(
      vector(at("attn_norm"), width),
      vector(at("ffn_norm"), width),
      vector(at("attn_q_norm"), headWidth),
      vector(at("attn_k_norm"), headWidth),
      matrix(at("attn_q"), heads * headWidth, width),
      matrix(at("attn_k"), kvHeads * headWidth, width),
      matrix(at("attn_v"), kvHeads * headWidth, width),
      matrix(at("attn_output"), width, heads * headWidth),
      matrix(at("ffn_gate"), intermediateWidth, width),
      matrix(at("ffn_up"), intermediateWidth, width),
      matrix(at("ffn_down"), width, intermediateWidth),
    );
  }
  return tensors;
}

const elements = ({ dimensions }: TensorEntry) => dimensions.reduce((a, b) => a * b, 1);

const LETTERS = "abcdefghijklmnopqrstuvwxyz";

/** Printable stand-ins of the 256 bytes, as byte-level vocabularies write them. */
function byteTokens(): string[] {
  const printable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from(
    { length: 256 },
    (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++),
  );
}

/** A byte-level vocabulary: bytes, pairs of letters that merge, filler, three special tokens. */
function vocabularyValues(size: number): [string, Value][] {
  const pairs = [...LETTERS].flatMap((first) => [...LETTERS].map((second) => [first, second]));
  const special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
  const tokens = [...byteTokens(), ...pairs.map((pair) => pair.join(""))];
  while (tokens.length < size - special.length) tokens.push(`zz${tokens.length}`);
  const firstSpecial = tokens.length;
  tokens.push(...special);
  const types = tokens.map((_, id) => id < firstSpecial ? 1 : 3);
  return [
    ["tokenizer.ggml.model", { type: "string", value: "gpt2" }],
    ["tokenizer.ggml.pre", { type: "string", value: "qwen2" }],
    ["tokenizer.ggml.tokens", { type: "strings", value: tokens }],
    ["tokenizer.ggml.token_type", { type: "integers", value: types }],
    ["tokenizer.ggml.merges", { type: "strings", value: pairs.map((pair) => pair.join(" ")) }],
    ["tokenizer.ggml.bos_token_id", { type: "u32", value: firstSpecial }],
    ["tokenizer.ggml.eos_token_id", { type: "u32", value: firstSpecial }],
    ["tokenizer.ggml.add_bos_token", { type: "bool", value: 0 }],
  ];
}

function metadata(shape: GgufShape, format: GgufFormat): [string, Value][] {
  const u32 = (value: number): Value => ({ type: "u32", value });
  const f32 = (value: number): Value => ({ type: "f32", value });
  return [
    ["general.architecture", { type: "string", value: "qwen3" }],
    ["general.name", { type: "string", value: "random weights" }],
    ["general.alignment", u32(ALIGNMENT)],
    ["general.file_type", u32(formats[format].fileType)],
    ["qwen3.context_length", u32(shape.contextTokens)],
    ["qwen3.embedding_length", u32(shape.hiddenWidth)],
    ["qwen3.block_count", u32(shape.layers)],
    ["qwen3.feed_forward_length", u32(shape.intermediateWidth)],
    ["qwen3.attention.head_count", u32(shape.heads)],
    ["qwen3.attention.head_count_kv", u32(shape.kvHeads)],
    ["qwen3.attention.key_length", u32(shape.headWidth)],
    ["qwen3.attention.value_length", u32(shape.headWidth)],
    ["qwen3.attention.layer_norm_rms_epsilon", f32(shape.epsilon)],
    ["qwen3.rope.freq_base", f32(shape.ropeTheta)],
    ["qwen3.vocab_size", u32(shape.vocabularySize)],
    ...vocabularyValues(shape.vocabularySize),
  ];
}

/** Random groups: a scale near 1 / (sqrt(columns) * deviation of the codes), then the codes. */
function randomGroups(
  format: GgufFormat,
  pool: { columns: number; count: number },
): Uint8Array {
  const { columns, count } = pool;
  const { groupBytes, codeDeviation } = formats[format];
  const random = seededRandom(columns);
  const bytes = new Uint8Array(count * groupBytes);
  const words = new Uint32Array(bytes.buffer, 0, Math.floor(bytes.length / 4));
  for (let i = 0; i < words.length; i++) words[i] = random() * 2 ** 32;
  const view = new DataView(bytes.buffer);
  const scale = 1 / (Math.sqrt(columns) * codeDeviation);
  for (let group = 0; group < count; group++) {
    view.setUint16(group * groupBytes, f32ToF16(scale * (0.9 + 0.2 * random())), true);
  }
  return bytes;
}

/** Bytes of one tensor in pieces: ones for vectors, groups of the pool from a place of its own. */
function* tensorPieces(
  tensor: TensorEntry,
  source: { pool: Uint8Array; groupBytes: number; first: number },
): Generator<Uint8Array> {
  if (!tensor.quantised) {
    yield new Uint8Array(new Float32Array(elements(tensor)).fill(1).buffer);
    return;
  }
  const { pool, groupBytes } = source;
  let rest = elements(tensor) / GROUP * groupBytes;
  let at = source.first * groupBytes % pool.length;
  while (rest > 0) {
    const piece = pool.subarray(at, Math.min(pool.length, at + rest));
    yield piece;
    rest -= piece.length;
    at = 0;
  }
}

const padding = (length: number) => (ALIGNMENT - length % ALIGNMENT) % ALIGNMENT;

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
}

/** Writes the file under another name first, so that a file of that name is always whole. */
export async function writeGguf(
  path: string,
  options: { shape: GgufShape; format: GgufFormat },
): Promise<void> {
  const { shape, format } = options;
  const { type, groupBytes } = formats[format];
  const tensors = tensorsOf(shape);
  const bytesOf = (tensor: TensorEntry) =>
    tensor.quantised ? elements(tensor) / GROUP * groupBytes : 4 * elements(tensor);
  const values = metadata(shape, format);
  const head = new ByteWriter();
  head.u32(0x46554747); // "GGUF"
  head.u32(3);
  head.u64(tensors.length);
  head.u64(values.length);
  for (const [key, value] of values) {
    head.string(key);
    writeValue(head, value);
  }
  let offset = 0;
  for (const tensor of tensors) {
    head.string(tensor.name);
    head.u32(tensor.dimensions.length);
    for (const dimension of tensor.dimensions) head.u64(dimension);
    head.u32(tensor.quantised ? type : F32_TYPE);
    head.u64(offset);
    offset += bytesOf(tensor) + padding(bytesOf(tensor));
  }
  const partial = `${path}.partial`;
  using file = await Deno.open(partial, { write: true, create: true, truncate: true });
  await writeAll(file, head.bytes);
  await writeAll(file, new Uint8Array(padding(head.length)));
  const poolGroups = Math.min(POOL_GROUPS_MAX, Math.max(...tensors.map(elements)) / GROUP);
  const pools = new Map<number, Uint8Array>();
  for (const [index, tensor] of tensors.entries()) {
    const columns = tensor.dimensions[0]!;
    if (tensor.quantised && !pools.has(columns)) {
      pools.set(columns, randomGroups(format, { columns, count: poolGroups }));
    }
    const pool = pools.get(columns)!;
    for (const piece of tensorPieces(tensor, { pool, groupBytes, first: 7919 * index })) {
      await writeAll(file, piece);
    }
    await writeAll(file, new Uint8Array(padding(bytesOf(tensor))));
  }
  await Deno.rename(partial, path);
}

/** The sizes of a decoder without experts, for a file of the same shape. */
export function decoderShape(config: DecoderConfig): GgufShape {
  assert(config.moe === undefined, "a GGUF file of a sparse decoder");
  return {
    layers: config.layers,
    hiddenWidth: config.hiddenWidth,
    intermediateWidth: config.intermediateWidth,
    heads: config.heads,
    kvHeads: config.kvHeads,
    headWidth: config.headWidth,
    vocabularySize: config.vocabularySize ?? 0,
    ropeTheta: config.ropeTheta,
    epsilon: config.epsilon,
    contextTokens: config.contextTokensMax,
  };
}

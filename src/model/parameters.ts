/**
 * Weights of a model on a backend. The same walk over the architecture runs twice: once to check
 * that every tensor exists in its shape (all problems in one error), once to stream the bytes.
 */
import type { Backend, Matrix, MatrixFormat } from "@/kernels/backend.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import { decodeToF32 } from "@/tensor/half.ts";
import { elementCount, fileDTypeBytes } from "@/tensor/dtype.ts";
import type { Checkpoint } from "@/weights/checkpoint.ts";
import { releasedName, type TensorName } from "@/weights/names.ts";
import type { StoredTensor } from "@/weights/safetensors.ts";
import { type DecoderConfig, isSparseLayer, type ModelConfig } from "./config.ts";

/** Weight [N, K] with an optional bias [N]. */
export interface Linear {
  readonly weight: Matrix;
  readonly bias: Tensor | undefined;
}

export interface GatedMlp {
  readonly gate: Linear;
  readonly up: Linear;
  readonly down: Linear;
}

export interface VisionLayer {
  readonly attentionNorm: Tensor;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  readonly mlpNorm: Tensor;
  readonly mlp: GatedMlp;
}

/** Stacked expert weights [E, N, K]. */
export interface MoeParameters {
  /** Router, never quantised. */
  readonly gate: Matrix;
  readonly expertGate: Matrix;
  readonly expertUp: Matrix;
  readonly expertDown: Matrix;
}

export interface DecoderLayer {
  readonly attentionNorm: Tensor;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  readonly queryNorm: Tensor;
  readonly keyNorm: Tensor;
  readonly mlpNorm: Tensor;
  readonly feedForward:
    | { readonly kind: "dense"; readonly mlp: GatedMlp }
    | { readonly kind: "sparse"; readonly moe: MoeParameters };
}

export interface Parameters {
  readonly vision: {
    readonly patch: Linear;
    readonly patchNorm: Tensor;
    /** [patches, visionWidth] */
    readonly position: Tensor;
    readonly layers: readonly VisionLayer[];
    readonly norm: Tensor | undefined;
  };
  readonly adapter: {
    readonly normWeight: Tensor;
    readonly normBias: Tensor;
    readonly hidden: Linear;
    readonly output: Linear;
  };
  readonly decoder: {
    readonly embedding: Matrix;
    readonly layers: readonly DecoderLayer[];
    readonly norm: Tensor;
    readonly head: Matrix;
  };
}

/** Weight precision of decoder linears and head; the rest keeps the file's. */
export type Quantisation = "none" | "q8";

interface MatrixRequest {
  readonly name: TensorName;
  readonly rows: number;
  readonly columns: number;
  readonly quantised?: boolean;
  /** Takes rows [firstRow, firstRow + rows) of a stored tensor of `storedRows` rows. */
  readonly firstRow?: number;
  readonly storedRows?: number;
}

interface ExpertsRequest {
  readonly layer: number;
  readonly part: "gate" | "up" | "down";
  readonly rows: number;
  readonly columns: number;
  readonly experts: number;
}

/** Where the architecture walk gets its weights from. */
interface ParameterSource {
  has(name: TensorName): boolean;
  /** Rows of a 2-D tensor, 0 when missing. */
  rowsOf(name: TensorName): number;
  matrix(request: MatrixRequest): Promise<Matrix>;
  experts(request: ExpertsRequest): Promise<Matrix>;
  vector(name: TensorName, size: number, part?: { first: number; stored: number }): Promise<Tensor>;
}

/** Called as weights arrive, for progress lines. */
export type LoadProgress = (doneBytes: number, totalBytes: number) => void;

/** Checks the whole folder, then streams it to the backend tensor by tensor. */
export async function loadParameters(args: {
  checkpoint: Checkpoint;
  config: ModelConfig;
  backend: Backend;
  quantisation: Quantisation;
  onProgress?: LoadProgress;
}): Promise<Parameters> {
  const { checkpoint, config } = args;
  const checking = new CheckingSource(checkpoint);
  await walk(config, checking);
  checking.reportUnused();
  checkpoint.problems.throwIfAny(checkpoint.label);
  return await walk(config, new UploadingSource(args, checking.usedBytes));
}

async function walk(config: ModelConfig, source: ParameterSource): Promise<Parameters> {
  const vision = await walkVision(config, source);
  const { hiddenWidth } = config.decoder;
  const merged = config.vision.hiddenWidth * config.mergeFactor ** 2;
  const adapter = {
    normWeight: await source.vector("adapter.norm.weight", merged),
    normBias: await source.vector("adapter.norm.bias", merged),
    hidden: await biasedLinear(source, "adapter.hidden", hiddenWidth, merged),
    output: await biasedLinear(source, "adapter.output", hiddenWidth, hiddenWidth),
  };
  const rows = source.rowsOf("decoder.embedding") || (config.decoder.vocabularySize ?? 1);
  const embedding = await source.matrix({ name: "decoder.embedding", rows, columns: hiddenWidth });
  const layers: DecoderLayer[] = [];
  for (let i = 0; i < config.decoder.layers; i++) {
    layers.push(await walkDecoderLayer(config.decoder, source, i));
  }
  const norm = await source.vector("decoder.norm.weight", hiddenWidth);
  // A stored head wins over the tie flag: the released 2B says tied and yet stores one.
  const head = await source.matrix({
    name: source.has("decoder.head") ? "decoder.head" : "decoder.embedding",
    rows,
    columns: hiddenWidth,
    quantised: true,
  });
  return { vision, adapter, decoder: { embedding, layers, norm, head } };
}

async function biasedLinear(
  source: ParameterSource,
  name: string,
  rows: number,
  columns: number,
): Promise<Linear> {
  return {
    weight: await source.matrix({ name: `${name}.weight`, rows, columns }),
    bias: await source.vector(`${name}.bias`, rows),
  };
}

/** A linear whose bias is used when the file has one. */
async function linear(
  source: ParameterSource,
  name: string,
  size: { rows: number; columns: number; quantised?: boolean },
): Promise<Linear> {
  return {
    weight: await source.matrix({ name: `${name}.weight`, ...size }),
    bias: source.has(`${name}.bias`) ? await source.vector(`${name}.bias`, size.rows) : undefined,
  };
}

async function walkVision(
  config: ModelConfig,
  source: ParameterSource,
): Promise<Parameters["vision"]> {
  const { hiddenWidth, patchSize, layers, featureLayer } = config.vision;
  const patches = Math.floor(config.preprocess.tileSize / patchSize) ** 2;
  const position = await source.vector("vision.position", patches * hiddenWidth);
  const result: VisionLayer[] = [];
  for (let i = 0; i < layers; i++) result.push(await walkVisionLayer(config, source, i));
  return {
    patch: await biasedLinear(source, "vision.patch", hiddenWidth, 3 * patchSize ** 2),
    patchNorm: await source.vector("vision.patchNorm.weight", hiddenWidth),
    position: { ...position, shape: [patches, hiddenWidth] },
    layers: result,
    norm: featureLayer === "normed" || source.has("vision.norm.weight")
      ? await source.vector("vision.norm.weight", hiddenWidth)
      : undefined,
  };
}

async function walkVisionLayer(
  config: ModelConfig,
  source: ParameterSource,
  index: number,
): Promise<VisionLayer> {
  const { hiddenWidth, intermediateWidth } = config.vision;
  const at = `vision.${index}`;
  const square = { rows: hiddenWidth, columns: hiddenWidth };
  const wide = { rows: intermediateWidth, columns: hiddenWidth };
  const projection = async (which: "query" | "key" | "value", third: number): Promise<Linear> => {
    // One stored tensor holds q, k and v rows; transformers' aimv2 stores them apart.
    if (source.has(`${at}.${which}.weight`)) return await linear(source, `${at}.${which}`, square);
    const part = { first: third * hiddenWidth, stored: 3 * hiddenWidth };
    return {
      weight: await source.matrix({
        name: `${at}.qkv.weight`,
        ...square,
        firstRow: part.first,
        storedRows: part.stored,
      }),
      bias: source.has(`${at}.qkv.bias`)
        ? await source.vector(`${at}.qkv.bias`, hiddenWidth, part)
        : undefined,
    };
  };
  return {
    attentionNorm: await source.vector(`${at}.attentionNorm.weight`, hiddenWidth),
    query: await projection("query", 0),
    key: await projection("key", 1),
    value: await projection("value", 2),
    output: await linear(source, `${at}.output`, square),
    mlpNorm: await source.vector(`${at}.mlpNorm.weight`, hiddenWidth),
    mlp: {
      gate: await linear(source, `${at}.gate`, wide),
      up: await linear(source, `${at}.up`, wide),
      down: await linear(source, `${at}.down`, { rows: hiddenWidth, columns: intermediateWidth }),
    },
  };
}

async function walkDecoderLayer(
  config: DecoderConfig,
  source: ParameterSource,
  index: number,
): Promise<DecoderLayer> {
  const { hiddenWidth, headWidth } = config;
  const queryWidth = config.heads * headWidth;
  const kvWidth = config.kvHeads * headWidth;
  const at = `decoder.${index}`;
  const into = (rows: number) => ({ rows, columns: hiddenWidth, quantised: true });
  return {
    attentionNorm: await source.vector(`${at}.attentionNorm.weight`, hiddenWidth),
    query: await linear(source, `${at}.query`, into(queryWidth)),
    key: await linear(source, `${at}.key`, into(kvWidth)),
    value: await linear(source, `${at}.value`, into(kvWidth)),
    output: await linear(source, `${at}.output`, {
      rows: hiddenWidth,
      columns: queryWidth,
      quantised: true,
    }),
    queryNorm: await source.vector(`${at}.queryNorm.weight`, headWidth),
    keyNorm: await source.vector(`${at}.keyNorm.weight`, headWidth),
    mlpNorm: await source.vector(`${at}.mlpNorm.weight`, hiddenWidth),
    feedForward: await walkFeedForward(config, source, index),
  };
}

async function walkFeedForward(
  config: DecoderConfig,
  source: ParameterSource,
  index: number,
): Promise<DecoderLayer["feedForward"]> {
  const { hiddenWidth, intermediateWidth, moe } = config;
  const at = `decoder.${index}`;
  if (moe === undefined || !isSparseLayer(config, index)) {
    const wide = { rows: intermediateWidth, columns: hiddenWidth, quantised: true };
    const narrow = { rows: hiddenWidth, columns: intermediateWidth, quantised: true };
    return {
      kind: "dense",
      mlp: {
        gate: await linear(source, `${at}.gate`, wide),
        up: await linear(source, `${at}.up`, wide),
        down: await linear(source, `${at}.down`, narrow),
      },
    };
  }
  const { experts, intermediateWidth: width } = moe;
  const wide = { layer: index, rows: width, columns: hiddenWidth, experts };
  return {
    kind: "sparse",
    moe: {
      gate: await source.matrix({
        name: `${at}.moeGate.weight`,
        rows: experts,
        columns: hiddenWidth,
      }),
      expertGate: await source.experts({ ...wide, part: "gate" }),
      expertUp: await source.experts({ ...wide, part: "up" }),
      expertDown: await source.experts({
        layer: index,
        part: "down",
        rows: hiddenWidth,
        columns: width,
        experts,
      }),
    },
  };
}

const noStorage = { sizeBytes: 0 };

/** First pass: shapes only; problems go to the checkpoint's list. */
class CheckingSource implements ParameterSource {
  readonly #checkpoint: Checkpoint;
  readonly #used = new Set<TensorName>();
  readonly #reported = new Set<TensorName>();

  constructor(checkpoint: Checkpoint) {
    this.#checkpoint = checkpoint;
  }

  get usedBytes(): number {
    let sum = 0;
    for (const name of this.#used) sum += this.#checkpoint.tensors.get(name)?.sizeBytes ?? 0;
    return sum;
  }

  has(name: TensorName): boolean {
    return this.#checkpoint.tensors.has(name);
  }

  rowsOf(name: TensorName): number {
    return this.#checkpoint.tensors.get(name)?.shape[0] ?? 0;
  }

  matrix(request: MatrixRequest): Promise<Matrix> {
    const { name, rows, columns } = request;
    this.#expect(name, [request.storedRows ?? rows, columns]);
    return Promise.resolve({ format: "f32", experts: 1, rows, columns, storage: noStorage });
  }

  experts(request: ExpertsRequest): Promise<Matrix> {
    const { rows, columns, experts } = request;
    const fused = fusedPart(request);
    if (this.has(fused.name)) this.#expect(fused.name, [experts, fused.storedRows, columns]);
    else {
      for (let e = 0; e < experts; e++) this.#expect(expertName(request, e), [rows, columns]);
    }
    return Promise.resolve({ format: "f32", experts, rows, columns, storage: noStorage });
  }

  vector(
    name: TensorName,
    size: number,
    part?: { first: number; stored: number },
  ): Promise<Tensor> {
    this.#expect(name, [part?.stored ?? size]);
    return Promise.resolve({ dtype: "f32", shape: [size], storage: noStorage, byteOffset: 0 });
  }

  #expect(name: TensorName, shape: readonly number[]): void {
    this.#used.add(name);
    if (this.#reported.has(name)) return;
    const tensor = this.#checkpoint.tensors.get(name);
    const problems = this.#checkpoint.problems;
    if (tensor === undefined) {
      problems.add("missing tensors", `${releasedName(name)} [${shape}]`);
    } else if (!["F32", "F16", "BF16"].includes(tensor.dtype)) {
      problems.add("tensors of an unsupported type", `${tensor.name} ${tensor.dtype}`);
    } else if (!sameShape(tensor.shape, shape)) {
      problems.add(
        "mis-shaped tensors",
        `${tensor.name} is [${tensor.shape}], the configuration needs [${shape}]`,
      );
    } else return;
    this.#reported.add(name);
  }

  /** Tensors that belong to no part of the configured model. */
  reportUnused(): void {
    for (const [name, tensor] of this.#checkpoint.tensors) {
      if (this.#used.has(name)) continue;
      this.#checkpoint.problems.add(
        "unexpected tensors",
        `${tensor.name} [${tensor.shape}] (not part of the configured model)`,
      );
    }
  }
}

/** Equal after dropping leading ones and flattening trailing axes ([D,3,P,P] is [D,3PP]). */
function sameShape(stored: readonly number[], wanted: readonly number[]): boolean {
  let trimmed = [...stored];
  while (trimmed.length > wanted.length && trimmed[0] === 1) trimmed = trimmed.slice(1);
  if (wanted.length === 1) return elementCount(trimmed) === wanted[0];
  if (trimmed.length < wanted.length) return false;
  const leading = wanted.length - 1;
  for (let i = 0; i < leading; i++) if (trimmed[i] !== wanted[i]) return false;
  return elementCount(trimmed.slice(leading)) === wanted[leading];
}

function expertName(request: ExpertsRequest, expert: number): TensorName {
  return `decoder.${request.layer}.experts.${expert}.${request.part}.weight`;
}

/** The same rows inside a fused 3-D tensor: gate rows come before up rows. */
function fusedPart(request: ExpertsRequest) {
  const at = `decoder.${request.layer}.experts`;
  if (request.part === "down") return { name: `${at}.down`, storedRows: request.rows, first: 0 };
  return {
    name: `${at}.gateUp`,
    storedRows: 2 * request.rows,
    first: request.part === "up" ? request.rows : 0,
  };
}

/** Largest piece of a tensor in flight. */
const CHUNK_BYTES = 16 * 1024 * 1024;
const formatOf = { F32: "f32", F16: "f16", BF16: "bf16" } as const;
type FloatDType = keyof typeof formatOf;

/** Second pass: streams bytes in row chunks, so peak memory is the weights plus one chunk. */
class UploadingSource implements ParameterSource {
  readonly #checkpoint: Checkpoint;
  readonly #backend: Backend;
  readonly #quantisation: Quantisation;
  readonly #onProgress: LoadProgress | undefined;
  readonly #totalBytes: number;
  readonly #made = new Map<string, Matrix>();
  #doneBytes = 0;

  constructor(
    args: {
      checkpoint: Checkpoint;
      backend: Backend;
      quantisation: Quantisation;
      onProgress?: LoadProgress;
    },
    totalBytes: number,
  ) {
    this.#checkpoint = args.checkpoint;
    this.#backend = args.backend;
    this.#quantisation = args.quantisation;
    this.#onProgress = args.onProgress;
    this.#totalBytes = totalBytes;
  }

  has(name: TensorName): boolean {
    return this.#checkpoint.tensors.has(name);
  }

  rowsOf(name: TensorName): number {
    return this.#checkpoint.tensors.get(name)?.shape[0] ?? 0;
  }

  async matrix(request: MatrixRequest): Promise<Matrix> {
    const { name, rows, columns } = request;
    const tensor = this.#tensor(name);
    const format = this.#format(tensor, request.quantised ?? false);
    // A tied head asks for the embedding again: share it when the format is the same.
    const key = `${name}/${format}/${request.firstRow ?? 0}/${rows}`;
    const made = this.#made.get(key);
    if (made) return made;
    const matrix = this.#backend.createMatrix({ format, rows, columns });
    await this.#pack({ matrix, tensor, firstStoredRow: request.firstRow ?? 0, expert: 0 });
    this.#made.set(key, matrix);
    return matrix;
  }

  async experts(request: ExpertsRequest): Promise<Matrix> {
    const { rows, columns, experts } = request;
    const fused = fusedPart(request);
    const isFused = this.has(fused.name);
    const first = this.#tensor(isFused ? fused.name : expertName(request, 0));
    const format = this.#format(first, true);
    const matrix = this.#backend.createMatrix({ format, rows, columns, experts });
    for (let expert = 0; expert < experts; expert++) {
      const tensor = isFused ? first : this.#tensor(expertName(request, expert));
      const firstStoredRow = isFused ? expert * fused.storedRows + fused.first : 0;
      await this.#pack({ matrix, tensor, firstStoredRow, expert });
    }
    return matrix;
  }

  async vector(
    name: TensorName,
    size: number,
    part?: { first: number; stored: number },
  ): Promise<Tensor> {
    const tensor = this.#tensor(name);
    const width = fileDTypeBytes[tensor.dtype];
    const bytes = await this.#checkpoint.read(tensor, (part?.first ?? 0) * width, size * width);
    const out = this.#backend.allocate("f32", [size]);
    this.#backend.write(out, decodeToF32(bytes, tensor.dtype as FloatDType));
    this.#advance(bytes.byteLength);
    return out;
  }

  #tensor(name: TensorName): StoredTensor {
    return this.#checkpoint.tensors.get(name)!; // present: the first pass checked it
  }

  #format(tensor: StoredTensor, quantised: boolean): MatrixFormat {
    if (quantised && this.#quantisation !== "none") return this.#quantisation;
    return formatOf[tensor.dtype as FloatDType];
  }

  async #pack(args: {
    matrix: Matrix;
    tensor: StoredTensor;
    firstStoredRow: number;
    expert: number;
  }): Promise<void> {
    const { matrix, tensor, firstStoredRow, expert } = args;
    const rowBytes = matrix.columns * fileDTypeBytes[tensor.dtype];
    const rowsPerChunk = Math.max(1, Math.floor(CHUNK_BYTES / rowBytes));
    for (let firstRow = 0; firstRow < matrix.rows; firstRow += rowsPerChunk) {
      const rowCount = Math.min(rowsPerChunk, matrix.rows - firstRow);
      const offset = (firstStoredRow + firstRow) * rowBytes;
      const bytes = await this.#checkpoint.read(tensor, offset, rowCount * rowBytes);
      const dtype = tensor.dtype as FloatDType;
      await this.#backend.packRows(matrix, { expert, firstRow, rowCount, bytes, dtype });
      this.#advance(bytes.byteLength);
    }
  }

  #advance(bytes: number): void {
    this.#doneBytes += bytes;
    this.#onProgress?.(Math.min(this.#doneBytes, this.#totalBytes), this.#totalBytes);
  }
}

/**
 * Where the architecture walk of `parameters.ts` gets its weights: a checking source that only
 * compares shapes, and an uploading source that streams bytes to a backend.
 */
import type { Backend, Matrix, MatrixFormat } from "@/kernels/backend.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import { decodeToF32 } from "@/tensor/half.ts";
import { elementCount, fileDTypeBytes } from "@/tensor/dtype.ts";
import type { Checkpoint } from "@/weights/checkpoint.ts";
import { releasedName, type TensorName } from "@/weights/names.ts";
import type { StoredTensor } from "@/weights/safetensors.ts";

/** Weight precision of decoder linears and head; the rest keeps the file's. */
export type Quantisation = "none" | "q8";

export interface MatrixRequest {
  readonly name: TensorName;
  readonly rows: number;
  readonly columns: number;
  readonly quantised?: boolean;
  /** Takes rows [firstRow, firstRow + rows) of a stored tensor of `storedRows` rows. */
  readonly firstRow?: number;
  readonly storedRows?: number;
}

export interface ExpertsRequest {
  readonly layer: number;
  readonly part: "gate" | "up" | "down";
  readonly rows: number;
  readonly columns: number;
  readonly experts: number;
}

/** Where the architecture walk gets its weights from. */
export interface ParameterSource {
  has(name: TensorName): boolean;
  /** Rows of a 2-D tensor, 0 when missing. */
  rowsOf(name: TensorName): number;
  matrix(request: MatrixRequest): Promise<Matrix>;
  experts(request: ExpertsRequest): Promise<Matrix>;
  vector(name: TensorName, size: number, part?: { first: number; stored: number }): Promise<Tensor>;
}

/** Called as weights arrive, for progress lines. */
export type LoadProgress = (doneBytes: number, totalBytes: number) => void;

const noStorage = { sizeBytes: 0 };

/** Lists the tensors that a configuration implies, for weights that are drawn, not read. */
export class ListingSource implements ParameterSource {
  readonly shapes = new Map<TensorName, readonly number[]>();
  readonly #separateHead: boolean;

  constructor(separateHead: boolean) {
    this.#separateHead = separateHead;
  }

  has(name: TensorName): boolean {
    return name === "decoder.head" && this.#separateHead;
  }

  rowsOf(): number {
    return 0;
  }

  matrix(request: MatrixRequest): Promise<Matrix> {
    const { name, rows, columns } = request;
    this.shapes.set(name, [request.storedRows ?? rows, columns]);
    return Promise.resolve({ format: "f32", experts: 1, rows, columns, storage: noStorage });
  }

  experts(request: ExpertsRequest): Promise<Matrix> {
    const { rows, columns, experts } = request;
    for (let e = 0; e < experts; e++) this.shapes.set(expertName(request, e), [rows, columns]);
    return Promise.resolve({ format: "f32", experts, rows, columns, storage: noStorage });
  }

  vector(name: TensorName, size: number, part?: { first: number; stored: number }) {
    this.shapes.set(name, [part?.stored ?? size]);
    return Promise.resolve<Tensor>({
      dtype: "f32",
      shape: [size],
      storage: noStorage,
      byteOffset: 0,
    });
  }
}

/** First pass: shapes only; problems go to the checkpoint's list. */
export class CheckingSource implements ParameterSource {
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
export class UploadingSource implements ParameterSource {
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

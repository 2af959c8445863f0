/**
 * Weights from a checkpoint: a listing of what a configuration implies, a check of names, types and
 * shapes, and the pass that streams the bytes to a backend.
 */
import type { Backend, FileRows, Matrix, MatrixFormat } from "@/kernels/backend.ts";
import { isQuantised } from "@/kernels/matrix_layout.ts";
import { elementCount } from "@/tensor/dtype.ts";
import { decodeToF32 } from "@/tensor/half.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { Checkpoint } from "@/weights/checkpoint.ts";
import { releasedName, type TensorName } from "@/weights/names.ts";
import { matrixFormatOf, type Precision } from "@/weights/precision.ts";
import {
  drawnPanels,
  floatDTypes,
  fusedExperts,
  hasDrawnPanels,
  readRows,
  readVector,
  type RowsInFile,
  rowsOfExpert,
  rowsOfMatrix,
  storedBytes,
  storedFormat,
} from "./checkpoint_rows.ts";
import {
  expertName,
  expertsName,
  type ExpertsRequest,
  type LoadProgress,
  type MatrixRequest,
  type ParameterSource,
  shapeOfMatrix,
  shapeOfVector,
  type VectorRequest,
} from "./parameter_source.ts";

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
    const { name, rows, columns, stored } = request;
    this.shapes.set(stored?.name ?? name, [stored?.rows ?? rows, columns]);
    return Promise.resolve(shapeOfMatrix(request));
  }

  experts(request: ExpertsRequest): Promise<Matrix> {
    const { rows, columns, experts } = request;
    for (let e = 0; e < experts; e++) this.shapes.set(expertName(request, e), [rows, columns]);
    return Promise.resolve(shapeOfMatrix(request));
  }

  vector(request: VectorRequest): Promise<Tensor> {
    const { name, size, stored } = request;
    this.shapes.set(stored?.name ?? name, [stored?.size ?? size]);
    return Promise.resolve(shapeOfVector(request));
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
    const { name, rows, columns, stored } = request;
    this.#expect(stored?.name ?? name, [stored?.rows ?? rows, columns]);
    return Promise.resolve(shapeOfMatrix(request));
  }

  experts(request: ExpertsRequest): Promise<Matrix> {
    const { rows, columns, experts } = request;
    const fused = fusedExperts(request);
    if (this.has(fused.name)) this.#expect(fused.name, [experts, fused.storedRows, columns]);
    else {
      for (let e = 0; e < experts; e++) this.#expect(expertName(request, e), [rows, columns]);
    }
    return Promise.resolve(shapeOfMatrix(request));
  }

  vector(request: VectorRequest): Promise<Tensor> {
    const { name, size, stored } = request;
    this.#expect(stored?.name ?? name, [stored?.size ?? size]);
    return Promise.resolve(shapeOfVector(request));
  }

  #expect(name: TensorName, shape: readonly number[]): void {
    this.#used.add(name);
    if (this.#reported.has(name)) return;
    const tensor = this.#checkpoint.tensors.get(name);
    const problems = this.#checkpoint.problems;
    if (tensor === undefined) {
      problems.add("missing tensors", `${releasedName(name)} [${shape}]`);
    } else if (!floatDTypes.includes(tensor.dtype)) {
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

/** How a checkpoint becomes weights on a backend. */
export interface UploadOptions {
  readonly checkpoint: Checkpoint;
  readonly backend: Backend;
  readonly precision: Precision;
  readonly decoderLayers: number;
  readonly onProgress?: LoadProgress;
}

/** Second pass: streams bytes in pieces, so peak memory is the weights plus two pieces. */
export class UploadingSource implements ParameterSource {
  readonly #options: UploadOptions;
  readonly #totalBytes: number;
  readonly #made = new Map<string, Matrix>();
  #doneBytes = 0;

  constructor(options: UploadOptions, totalBytes: number) {
    this.#options = options;
    this.#totalBytes = totalBytes;
  }

  has(name: TensorName): boolean {
    return this.#options.checkpoint.tensors.has(name);
  }

  rowsOf(name: TensorName): number {
    return this.#options.checkpoint.tensors.get(name)?.shape[0] ?? 0;
  }

  async matrix(request: MatrixRequest): Promise<Matrix> {
    const { name, rows, columns } = request;
    const place = rowsOfMatrix(this.#options.checkpoint, request);
    const format = this.#format(name, place);
    // A tied head asks for the embedding again: share it when the format is the same.
    const key = `${place.tensor.name}/${format}/${place.firstRow}/${rows}`;
    const made = this.#made.get(key);
    if (made) return made;
    const matrix = this.#options.backend.createMatrix({ format, rows, columns });
    await this.#pack(matrix, place);
    this.#made.set(key, matrix);
    return matrix;
  }

  async experts(request: ExpertsRequest): Promise<Matrix> {
    const { rows, columns, experts } = request;
    const { backend, checkpoint } = this.#options;
    const format = this.#format(expertsName(request), rowsOfExpert(checkpoint, request, 0));
    const matrix = backend.createMatrix({ format, rows, columns, experts });
    for (let expert = 0; expert < experts; expert++) {
      await this.#pack(matrix, rowsOfExpert(checkpoint, request, expert), expert);
    }
    return matrix;
  }

  async vector(request: VectorRequest): Promise<Tensor> {
    const { backend, checkpoint } = this.#options;
    const { bytes, dtype } = await readVector(checkpoint, request);
    const out = backend.allocate("f32", [request.size]);
    backend.write(out, decodeToF32(bytes, dtype));
    this.#advance(bytes.byteLength);
    return out;
  }

  #format(name: TensorName, { tensor }: RowsInFile): MatrixFormat {
    const { precision, decoderLayers } = this.#options;
    return matrixFormatOf(name, { precision, decoderLayers, stored: storedFormat(tensor) });
  }

  /** Packs one piece while the next is read. */
  async #pack(matrix: Matrix, place: RowsInFile, expert = 0): Promise<void> {
    const { backend, checkpoint } = this.#options;
    const { format } = matrix;
    if (isQuantised(format) && hasDrawnPanels(place, format)) {
      for (const panels of drawnPanels(place, format)) {
        backend.writePanels(matrix, { ...panels, expert });
        await this.#pause();
      }
      this.#advance(storedBytes(place));
      return;
    }
    const pieces = readRows(checkpoint, place);
    let piece: FileRows | undefined = (await pieces.next()).value;
    while (piece) {
      const packing = backend.packRows(matrix, { ...piece, expert });
      const [next] = await Promise.all([pieces.next(), packing]);
      this.#advance(piece.bytes.byteLength);
      piece = next.value;
    }
  }

  /** Lets timers and requests run: drawing computes on the calling thread. */
  #pause(): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, 0));
  }

  #advance(bytes: number): void {
    this.#doneBytes += bytes;
    this.#options.onProgress?.(Math.min(this.#doneBytes, this.#totalBytes), this.#totalBytes);
  }
}

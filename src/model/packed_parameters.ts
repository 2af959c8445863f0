/**
 * Weights from a packed folder: a check of names and shapes against the configuration, and the pass
 * that copies the bytes to a backend.
 */
import type { Backend, Matrix } from "@/kernels/backend.ts";
import { panelBytes, panelCount } from "@/kernels/matrix_layout.ts";
import { decodeToF32 } from "@/tensor/half.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { TensorName } from "@/weights/names.ts";
import type { PackedFolder, StoredMatrix } from "@/weights/packed_folder.ts";
import {
  expertsName,
  type ExpertsRequest,
  type LoadProgress,
  type MatrixRequest,
  type ParameterSource,
  shapeOfMatrix,
  shapeOfVector,
  type VectorRequest,
} from "./parameter_source.ts";

/** Bytes of one read. */
const PIECE_BYTES = 32 * 1024 * 1024;

/** What a packed folder answers without reading: one matrix per request, stored under its name. */
abstract class PackedSource implements ParameterSource {
  protected readonly packed: PackedFolder;

  constructor(packed: PackedFolder) {
    this.packed = packed;
  }

  has(name: TensorName): boolean {
    return this.packed.matrices.has(name) || this.packed.vectors.has(name);
  }

  rowsOf(name: TensorName): number {
    return this.packed.matrices.get(name)?.matrix.rows ?? 0;
  }

  /** A weight that shares another's tensor and format is stored under that name alone. */
  protected nameOf({ name, stored }: MatrixRequest): TensorName {
    return stored && !this.packed.matrices.has(name) ? stored.name : name;
  }

  abstract matrix(request: MatrixRequest): Promise<Matrix>;
  abstract experts(request: ExpertsRequest): Promise<Matrix>;
  abstract vector(request: VectorRequest): Promise<Tensor>;
}

/** First pass: problems go to the folder's list. */
export class CheckingPackedSource extends PackedSource {
  readonly #used = new Set<TensorName>();

  override matrix(request: MatrixRequest): Promise<Matrix> {
    this.#expect(this.nameOf(request), { experts: 1, ...request });
    return Promise.resolve(shapeOfMatrix(request));
  }

  override experts(request: ExpertsRequest): Promise<Matrix> {
    this.#expect(expertsName(request), request);
    return Promise.resolve(shapeOfMatrix(request));
  }

  override vector(request: VectorRequest): Promise<Tensor> {
    const { name, size } = request;
    this.#used.add(name);
    const shape = this.packed.vectors.get(name)?.shape;
    if (shape === undefined) this.packed.problems.add("missing tensors", `${name} [${size}]`);
    else if (shape[0] !== size) {
      this.packed.problems.add(
        "mis-shaped tensors",
        `${name} is [${shape}], the configuration needs [${size}]`,
      );
    }
    return Promise.resolve(shapeOfVector(request));
  }

  #expect(name: TensorName, size: { experts: number; rows: number; columns: number }): void {
    this.#used.add(name);
    const wanted = [size.experts, size.rows, size.columns];
    const matrix = this.packed.matrices.get(name)?.matrix;
    if (matrix === undefined) {
      this.packed.problems.add("missing tensors", `${name} [${wanted}]`);
      return;
    }
    const stored = [matrix.experts, matrix.rows, matrix.columns];
    if (stored.join() === wanted.join()) return;
    this.packed.problems.add(
      "mis-shaped tensors",
      `${name} is [${stored}], the configuration needs [${wanted}]`,
    );
  }

  /** Tensors that belong to no part of the configured model. */
  reportUnused(): void {
    for (const name of [...this.packed.matrices.keys(), ...this.packed.vectors.keys()]) {
      if (this.#used.has(name)) continue;
      this.packed.problems.add("unexpected tensors", `${name} (not part of the configured model)`);
    }
  }
}

/** Second pass: copies bytes in large pieces; nothing is computed. */
export class CopyingSource extends PackedSource {
  readonly #backend: Backend;
  readonly #onProgress: LoadProgress | undefined;
  readonly #made = new Map<TensorName, Matrix>();
  readonly #totalBytes: number;
  readonly #staging = new Uint8Array(PIECE_BYTES);
  #doneBytes = 0;

  constructor(args: { packed: PackedFolder; backend: Backend; onProgress?: LoadProgress }) {
    super(args.packed);
    this.#backend = args.backend;
    this.#onProgress = args.onProgress;
    this.#totalBytes = packedSize(args.packed);
  }

  override async matrix(request: MatrixRequest): Promise<Matrix> {
    return await this.#copied(this.nameOf(request));
  }

  override async experts(request: ExpertsRequest): Promise<Matrix> {
    return await this.#copied(expertsName(request));
  }

  override async vector({ name, size }: VectorRequest): Promise<Tensor> {
    const tensor = this.packed.vectors.get(name)!; // present: the first pass checked it
    const bytes = await tensor.source.read(tensor.offset, tensor.sizeBytes);
    const out = this.#backend.allocate("f32", [size]);
    this.#backend.write(out, decodeToF32(bytes, "F32"));
    this.#advance(bytes.byteLength);
    return out;
  }

  async #copied(name: TensorName): Promise<Matrix> {
    const made = this.#made.get(name);
    if (made) return made;
    const stored = this.packed.matrices.get(name)!; // present: the first pass checked it
    const matrix = this.#backend.createMatrix(stored.matrix);
    for (let expert = 0; expert < matrix.experts; expert++) {
      await this.#copyExpert(matrix, expert, stored);
    }
    this.#made.set(name, matrix);
    return matrix;
  }

  async #copyExpert(matrix: Matrix, expert: number, { tensor }: StoredMatrix): Promise<void> {
    const [panels, bytesOfPanel] = [panelCount(matrix), panelBytes(matrix)];
    const start = tensor.offset + expert * panels * bytesOfPanel;
    const panelsPerPiece = Math.max(1, Math.floor(PIECE_BYTES / bytesOfPanel));
    for (let firstPanel = 0; firstPanel < panels; firstPanel += panelsPerPiece) {
      const size = Math.min(panelsPerPiece, panels - firstPanel) * bytesOfPanel;
      const bytes = this.#buffer(size);
      await tensor.source.readInto(start + firstPanel * bytesOfPanel, bytes);
      this.#backend.writePanels(matrix, { expert, firstPanel, bytes });
      this.#advance(size);
    }
  }

  #buffer(size: number): Uint8Array {
    return size <= PIECE_BYTES ? this.#staging.subarray(0, size) : new Uint8Array(size);
  }

  #advance(bytes: number): void {
    this.#doneBytes += bytes;
    this.#onProgress?.(this.#doneBytes, this.#totalBytes);
  }
}

/** Bytes of all tensors of a packed folder. */
export function packedSize(packed: PackedFolder): number {
  let sum = 0;
  for (const { tensor } of packed.matrices.values()) sum += tensor.sizeBytes;
  for (const tensor of packed.vectors.values()) sum += tensor.sizeBytes;
  return sum;
}

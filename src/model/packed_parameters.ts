/**
 * Weights from a packed folder: a check of names and shapes against the configuration, and the pass
 * that copies the bytes to a backend.
 */
import type { Backend, Matrix } from "@/kernels/backend.ts";
import { panelBytes, panelCount } from "@/kernels/matrix_layout.ts";
import { decodeToF32 } from "@/tensor/half.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { TensorName } from "@/weights/names.ts";
import type { PackedFolder } from "@/weights/packed_folder.ts";
import type { StoredTensor } from "@/weights/safetensors.ts";
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
const PIECE_BYTES = 8 * 1024 * 1024;

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

/** Bytes of a file and where they go. */
interface Piece {
  readonly tensor: StoredTensor;
  /** Inside the tensor. */
  readonly offset: number;
  readonly sizeBytes: number;
  readonly put: (bytes: Uint8Array) => void;
}

/**
 * Second pass: allocates what is asked for and notes what to copy there; `copyAll` then copies in
 * large pieces, one being read while the last is put in place. Nothing is computed.
 */
export class CopyingSource extends PackedSource {
  readonly #backend: Backend;
  readonly #onProgress: LoadProgress | undefined;
  readonly #made = new Map<TensorName, Matrix>();
  readonly #pieces: Piece[] = [];

  constructor(args: { packed: PackedFolder; backend: Backend; onProgress?: LoadProgress }) {
    super(args.packed);
    this.#backend = args.backend;
    this.#onProgress = args.onProgress;
  }

  override matrix(request: MatrixRequest): Promise<Matrix> {
    return Promise.try(() => this.#planned(this.nameOf(request)));
  }

  override experts(request: ExpertsRequest): Promise<Matrix> {
    return Promise.try(() => this.#planned(expertsName(request)));
  }

  override vector({ name, size }: VectorRequest): Promise<Tensor> {
    const tensor = this.packed.vectors.get(name)!; // present: the first pass checked it
    const out = this.#backend.allocate("f32", [size]);
    const put = (bytes: Uint8Array) => this.#backend.write(out, decodeToF32(bytes, "F32"));
    this.#pieces.push({ tensor, offset: 0, sizeBytes: tensor.sizeBytes, put });
    return Promise.resolve(out);
  }

  #planned(name: TensorName): Matrix {
    const made = this.#made.get(name);
    if (made) return made;
    const { matrix: shape, tensor } = this.packed.matrices.get(name)!; // the first pass checked it
    const matrix = this.#backend.createMatrix(shape);
    const [panels, bytesOfPanel] = [panelCount(matrix), panelBytes(matrix)];
    const panelsPerPiece = Math.max(1, Math.floor(PIECE_BYTES / bytesOfPanel));
    for (let expert = 0; expert < matrix.experts; expert++) {
      for (let firstPanel = 0; firstPanel < panels; firstPanel += panelsPerPiece) {
        this.#pieces.push({
          tensor,
          offset: (expert * panels + firstPanel) * bytesOfPanel,
          sizeBytes: Math.min(panelsPerPiece, panels - firstPanel) * bytesOfPanel,
          put: (bytes) => this.#backend.writePanels(matrix, { expert, firstPanel, bytes }),
        });
      }
    }
    this.#made.set(name, matrix);
    return matrix;
  }

  /** Of everything that was asked for. */
  get totalBytes(): number {
    return this.#pieces.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  /** Fills everything that was asked for. */
  async copyAll(): Promise<void> {
    const pieces = this.#pieces;
    const largest = pieces.reduce((size, { sizeBytes }) => Math.max(size, sizeBytes), 0);
    const buffers = [new Uint8Array(largest), new Uint8Array(largest)] as const;
    const read = async (index: number): Promise<Uint8Array> => {
      const { tensor, offset, sizeBytes } = pieces[index]!;
      const target = buffers[index % 2 === 0 ? 0 : 1].subarray(0, sizeBytes);
      await tensor.source.readInto(tensor.offset + offset, target);
      return target;
    };
    const { totalBytes } = this;
    let doneBytes = 0;
    let reading = pieces.length > 0 ? read(0) : undefined;
    for (const [index, { put, sizeBytes }] of pieces.entries()) {
      const bytes = await reading!;
      reading = index + 1 < pieces.length ? read(index + 1) : undefined;
      put(bytes);
      this.#onProgress?.(doneBytes += sizeBytes, totalBytes);
    }
  }
}

/** Bytes of all tensors of a packed folder, perhaps but the experts'. */
export function packedSize(
  packed: PackedFolder,
  options: { withoutExperts?: boolean | undefined } = {},
): number {
  let sum = 0;
  for (const { matrix, tensor } of packed.matrices.values()) {
    if (!options.withoutExperts || matrix.experts === 1) sum += tensor.sizeBytes;
  }
  for (const tensor of packed.vectors.values()) sum += tensor.sizeBytes;
  return sum;
}

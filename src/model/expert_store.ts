/**
 * Single experts of a sparse model, read from a checkpoint or packed folder one at a time: only the
 * bytes of the wanted expert leave the disk. It knows no node and computes nothing.
 */
import { OperatingError } from "@/errors.ts";
import type { Backend, Matrix, MatrixFormat } from "@/kernels/backend.ts";
import { isQuantised, panelBytes, panelCount } from "@/kernels/matrix_layout.ts";
import type { Checkpoint } from "@/weights/checkpoint.ts";
import { PackedFolder } from "@/weights/packed_folder.ts";
import { matrixFormatOf, type Precision, precisionOf } from "@/weights/precision.ts";
import {
  drawnPanels,
  hasDrawnPanels,
  readRows,
  rowsOfExpert,
  storedFormat,
} from "./checkpoint_rows.ts";
import { isSparseLayer, type ModelConfig, type MoeConfig } from "./config.ts";
import { isPacked, type ModelSource, openCheckpoint, readConfig } from "./open_checkpoint.ts";
import { CheckingPackedSource } from "./packed_parameters.ts";
import { expertsName, type ExpertsRequest } from "./parameter_source.ts";
import { checkParameters, walkParameters } from "./parameters.ts";

/** One expert of one layer. */
export interface ExpertPlace {
  readonly layer: number;
  readonly expert: number;
}

/** Weights of one expert, each [1, N, K]. */
export interface ExpertWeights {
  readonly gate: Matrix;
  readonly up: Matrix;
  readonly down: Matrix;
}

type ExpertPart = ExpertsRequest["part"];

/** Where experts come from; what is not said of the precision is as in `precisionOf`. */
export interface ExpertSource extends ModelSource, Partial<Precision> {}

export abstract class ExpertStore {
  readonly config: ModelConfig;
  readonly moe: MoeConfig;
  readonly precision: Precision;
  /** Decoder layers that have experts, ascending. */
  readonly layers: readonly number[];

  protected constructor(config: ModelConfig, precision: Precision) {
    const { moe, layers } = config.decoder;
    if (moe === undefined) {
      throw new OperatingError("checkpoint_invalid", "Cannot share experts: the model has none");
    }
    this.config = config;
    this.moe = moe;
    this.precision = precision;
    this.layers = Array.from({ length: layers }, (_, layer) => layer)
      .filter((layer) => isSparseLayer(config.decoder, layer));
  }

  /** Checks headers; throws OperatingError("checkpoint_invalid") as loading the model would. */
  static async open(source: ExpertSource): Promise<ExpertStore> {
    return await isPacked(source)
      ? await PackedExpertStore.openFolder(source)
      : await StoredExpertStore.openFolder(source);
  }

  /** Bytes on a backend of an expert of each of `layers`: outer layers may have wider formats. */
  get layerBytes(): number[] {
    return this.layers.map((layer) =>
      parts.reduce((sum, part) => {
        const request = this.request(layer, part);
        const shape = { ...request, format: this.format(request) };
        return sum + panelBytes(shape) * panelCount(shape);
      }, 0)
    );
  }

  /** Reads one expert's ranges into new matrices; on failure nothing is left behind. */
  async load(backend: Backend, place: ExpertPlace): Promise<ExpertWeights> {
    const made: Matrix[] = [];
    const make = async (part: ExpertPart): Promise<Matrix> => {
      const request = this.request(place.layer, part);
      const { rows, columns } = request;
      const matrix = backend.createMatrix({ format: this.format(request), rows, columns });
      made.push(matrix);
      await this.fill(backend, matrix, { request, expert: place.expert });
      return matrix;
    };
    try {
      return { gate: await make("gate"), up: await make("up"), down: await make("down") };
    } catch (error) {
      for (const matrix of made) backend.free(matrix);
      throw error;
    }
  }

  protected request(layer: number, part: ExpertPart): ExpertsRequest {
    const { experts, intermediateWidth } = this.moe;
    const { hiddenWidth } = this.config.decoder;
    return part === "down"
      ? { layer, part, experts, rows: hiddenWidth, columns: intermediateWidth }
      : { layer, part, experts, rows: intermediateWidth, columns: hiddenWidth };
  }

  protected abstract format(request: ExpertsRequest): MatrixFormat;
  protected abstract fill(
    backend: Backend,
    matrix: Matrix,
    from: { request: ExpertsRequest; expert: number },
  ): Promise<void>;
  abstract close(): void;
}

const parts: readonly ExpertPart[] = ["gate", "up", "down"];

/** From a checkpoint: rows are packed as they come. */
class StoredExpertStore extends ExpertStore {
  readonly #checkpoint: Checkpoint;

  private constructor(checkpoint: Checkpoint, config: ModelConfig, precision: Precision) {
    super(config, precision);
    this.#checkpoint = checkpoint;
  }

  static async openFolder(source: ExpertSource): Promise<ExpertStore> {
    const { checkpoint, config } = await openCheckpoint(source);
    try {
      await checkParameters(checkpoint, config);
      return new StoredExpertStore(checkpoint, config, precisionOf(source));
    } catch (error) {
      checkpoint.close();
      throw error;
    }
  }

  protected override format(request: ExpertsRequest): MatrixFormat {
    const { tensor } = rowsOfExpert(this.#checkpoint, request, 0);
    return matrixFormatOf(expertsName(request), {
      precision: this.precision,
      decoderLayers: this.config.decoder.layers,
      stored: storedFormat(tensor),
    });
  }

  protected override async fill(
    backend: Backend,
    matrix: Matrix,
    { request, expert }: { request: ExpertsRequest; expert: number },
  ): Promise<void> {
    const place = rowsOfExpert(this.#checkpoint, request, expert);
    const { format } = matrix;
    if (isQuantised(format) && hasDrawnPanels(place, format)) {
      for (const panels of drawnPanels(place, format)) backend.writePanels(matrix, panels);
      return;
    }
    for await (const piece of readRows(this.#checkpoint, place)) {
      await backend.packRows(matrix, piece);
    }
  }

  override close(): void {
    this.#checkpoint.close();
  }
}

/** From a packed folder: panels are copied as they are. */
class PackedExpertStore extends ExpertStore {
  readonly #packed: PackedFolder;

  private constructor(packed: PackedFolder, config: ModelConfig) {
    super(config, packed.manifest.precision);
    this.#packed = packed;
  }

  static async openFolder({ folder }: ExpertSource): Promise<ExpertStore> {
    const config = await readConfig(folder);
    const packed = await PackedFolder.open(folder);
    try {
      await walkParameters(config, new CheckingPackedSource(packed));
      packed.problems.throwIfAny(packed.label);
      return new PackedExpertStore(packed, config);
    } catch (error) {
      packed.close();
      throw error;
    }
  }

  protected override format(request: ExpertsRequest): MatrixFormat {
    return this.#packed.matrices.get(expertsName(request))!.matrix.format; // checked when opened
  }

  protected override async fill(
    backend: Backend,
    matrix: Matrix,
    { request, expert }: { request: ExpertsRequest; expert: number },
  ): Promise<void> {
    const { tensor } = this.#packed.matrices.get(expertsName(request))!;
    const sizeBytes = panelBytes(matrix) * panelCount(matrix);
    const bytes = new Uint8Array(sizeBytes);
    await tensor.source.readInto(tensor.offset + expert * sizeBytes, bytes);
    backend.writePanels(matrix, { firstPanel: 0, bytes });
  }

  override close(): void {
    this.#packed.close();
  }
}

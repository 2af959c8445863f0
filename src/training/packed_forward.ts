/**
 * The model's program over a packed training batch: samples one after the other, positions from 0
 * in each, none sees another. The files of `model/` that serve record it; here is only what a step
 * of the engine does otherwise: pictures, embeddings, splicing, the rows whose logits count.
 */
import { assert } from "@/assert.ts";
import type { Backend, KvCache } from "@/kernels/backend.ts";
import type { PackedBatch } from "@/data/stream/packed_batch.ts";
import { adapt, mergeOrder } from "@/model/adapter.ts";
import { tokensPerTile } from "@/model/config.ts";
import { decode } from "@/model/decoder.ts";
import { LocalExperts } from "@/model/experts.ts";
import type { MoeParameters } from "@/model/parameters.ts";
import type { Program, Tap } from "@/model/program.ts";
import { ropeTable } from "@/model/rope.ts";
import { visionFeatures } from "@/model/vision.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { CuePlace } from "./cues.ts";
import type { Tape } from "./tape.ts";
import type { TrainableModel } from "./training_source.ts";

/** The part of a packed batch that the program reads. */
export interface ProgramBatch extends
  Pick<
    PackedBatch,
    "tokenIds" | "positions" | "tiles" | "visualRows" | "scoredRows" | "targets" | "weights"
  >,
  Partial<Pick<PackedBatch, "cues">> {
  /** i32: which visual token each of `visualRows` shows; missing: all of them, in their order. */
  readonly visualTokens?: Int32Array;
}

/** Takes what a batch's pictures became: [T * rows, width] of a place. */
export type OnVision = (place: CuePlace, rows: Tensor) => void;

/** Host values of one program; freed once it has run. */
export class BatchTensors {
  readonly #backend: Backend;
  readonly #held: Tensor[] = [];

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  i32(values: Int32Array): Tensor {
    return this.#hold("i32", [values.length], values);
  }

  f32(values: Float32Array): Tensor {
    return this.#hold("f32", [values.length], values);
  }

  u8(values: Uint8Array, shape: readonly number[]): Tensor {
    return this.#hold("u8", shape, values);
  }

  free(): void {
    for (const tensor of this.#held.splice(0)) this.#backend.free(tensor);
  }

  #hold(
    dtype: Tensor["dtype"],
    shape: readonly number[],
    values: Float32Array | Int32Array | Uint8Array,
  ): Tensor {
    const tensor = this.#backend.allocate(dtype, shape);
    this.#held.push(tensor);
    if (values.length > 0) this.#backend.write(tensor, values);
    return tensor;
  }
}

/** What a model's programs have in common. */
export class PackedModel {
  readonly model: TrainableModel;
  readonly #backend: Backend;
  readonly #ropeTable: Tensor;
  readonly #experts: LocalExperts;
  readonly #cache: KvCache;

  constructor(model: TrainableModel, backend: Backend) {
    const { decoder } = model.config;
    this.model = model;
    this.#backend = backend;
    this.#ropeTable = backend.allocate("f32", [decoder.contextTokensMax, decoder.headWidth]);
    backend.write(
      this.#ropeTable,
      ropeTable(decoder.contextTokensMax, decoder.headWidth, decoder.ropeTheta),
    );
    const sparse = new Map<number, MoeParameters>();
    for (const [index, { feedForward }] of model.parameters.decoder.layers.entries()) {
      if (feedForward.kind === "sparse") sparse.set(index, feedForward.moe);
    }
    this.#experts = new LocalExperts(sparse);
    const { layers, kvHeads, headWidth } = decoder;
    // Keys and values stay on the tape; only the shape is read.
    const shape = { layers, kvHeads, headWidth, pages: 0, pageTokens: 1 };
    this.#cache = { format: "f32", ...shape, storage: { sizeBytes: 0 } };
  }

  /** Records the program and returns the logits [K, V] of the scored rows. */
  async forward(
    tape: Tape,
    options: {
      batch: ProgramBatch;
      tensors: BatchTensors;
      tap?: Tap;
      /** Given the tower's output [T * N, D] and the visual tokens, while they may be read. */
      onVision?: OnVision;
    },
  ): Promise<Tensor> {
    const { batch, tensors, onVision } = options;
    const { config, parameters } = this.model;
    const program = { ops: tape.ops, workspace: tape.workspace, tap: options.tap };
    const rows = batch.tokenIds.length;
    assert(batch.positions.length === rows, `${batch.positions.length} positions of ${rows} rows`);
    const visual = this.#recordVision(program, { batch, tensors, onVision });
    const { hiddenWidth } = config.decoder;
    const hidden = tape.workspace.tensor("f32", [rows, hiddenWidth]);
    const rowIndex = tensors.i32(batch.tokenIds);
    tape.ops.gatherRows({ table: parameters.decoder.embedding, rowIndex, out: hidden });
    if (visual) {
      const outRow = tensors.i32(batch.visualRows);
      const width = hiddenWidth;
      const rowCount = batch.visualRows.length;
      const rows = { outRow, width, rowCount };
      if (batch.visualTokens) {
        const sourceRow = tensors.i32(batch.visualTokens);
        tape.ops.copyRows({ source: visual, out: hidden, sourceRow, ...rows });
      } else tape.ops.copyRows({ source: visual, out: hidden, ...rows });
    }
    const rowLength = tensors.i32(batch.positions.map((position) => position + 1));
    const nothing = tensors.i32(new Int32Array(0));
    return await decode(program, hidden, {
      config: config.decoder,
      parameters: parameters.decoder,
      experts: this.#experts,
      cache: this.#cache,
      step: {
        position: tensors.i32(batch.positions),
        slot: nothing,
        rowSequence: nothing,
        rowLength,
        pageTable: nothing,
        ropeTable: this.#ropeTable,
      },
      logitRows: tensors.i32(batch.scoredRows),
    });
  }

  close(): void {
    this.#backend.free(this.#ropeTable);
  }

  /** Visual tokens [T * tokensPerTile, H] of all tiles; undefined without tiles. */
  #recordVision(
    program: Program,
    { batch, tensors, onVision }: {
      batch: ProgramBatch;
      tensors: BatchTensors;
      onVision: OnVision | undefined;
    },
  ): Tensor | undefined {
    const { config, parameters } = this.model;
    const { tileSize } = config.preprocess;
    const count = batch.tiles.length / (tileSize * tileSize * 3);
    const tokens = count * tokensPerTile(config);
    const shown = (batch.visualTokens ?? batch.visualRows).length;
    assert(shown === batch.visualRows.length, "one visual token per row");
    assert(batch.visualTokens || tokens === shown, `${shown} rows for ${tokens}`);
    if (count === 0) return undefined;
    const side = tileSize / config.vision.patchSize;
    const grid = { rows: side, columns: side };
    const features = visionFeatures(program, {
      pixels: tensors.u8(batch.tiles, [count, tileSize, tileSize, 3]),
      count,
      grid,
      position: parameters.vision.position,
      config,
      parameters: parameters.vision,
    });
    onVision?.("patches", features);
    const order = mergeOrder({
      grid,
      factor: config.mergeFactor,
      order: config.mergeOrder,
      count,
    });
    const out = program.workspace.tensor("f32", [tokens, config.decoder.hiddenWidth]);
    adapt(program, {
      features,
      order: tensors.i32(order),
      config,
      parameters: parameters.adapter,
      out,
    });
    onVision?.("tokens", out);
    return out;
  }
}

/**
 * The vision-language model as the engine sees it: configuration, parameters and scratch memory
 * of one checkpoint on one backend. Records programs; never samples, never sees a request.
 */
import { assert } from "@/assert.ts";
import type { Backend, KvCache } from "@/kernels/backend.ts";
import { limits } from "@/limits.ts";
import { sliceRows, type Storage, type Tensor } from "@/tensor/tensor.ts";
import { adapt, mergeOrder } from "./adapter.ts";
import type { StepTensors } from "./attention.ts";
import { type ModelConfig, tokensPerTile } from "./config.ts";
import { decode } from "./decoder.ts";
import { type ExpertExecutor, LocalExperts } from "./experts.ts";
import { HostLayers, type HostPlacement, PlacedExperts } from "./host_layers.ts";
import type { LanguageModel, PictureInput, StepInput } from "./language_model.ts";
import type { MoeParameters, Parameters } from "./parameters.ts";
import { measuringOps, type Program, type Tap } from "./program.ts";
import { interpolatePositions } from "./positions.ts";
import { ropeTable } from "./rope.ts";
import { type PatchGrid, visionFeatures } from "./vision.ts";
import { ArenaWorkspace } from "./workspace.ts";

/** Bounds that size the scratch memory. */
export interface ModelBounds {
  readonly stepTokens: number;
  readonly stepTiles: number;
  readonly logitRows: number;
  readonly contextTokens: number;
}

export const defaultBounds: ModelBounds = {
  stepTokens: limits.stepTokensMax,
  stepTiles: limits.stepTilesMax,
  logitRows: 2 * limits.runningSequencesMax,
  contextTokens: Number.MAX_SAFE_INTEGER,
};

/** Rows of steps worth repeating: with more, recording takes a part of the time not worth a word. */
const REPEATED_ROWS_MAX = 64;

/** What a decoder step reads, on the backend. */
interface DecoderTensors {
  /** i32 [R] ids. */
  readonly rowIndex: Tensor;
  readonly step: StepTensors;
  /** i32 [K]. */
  readonly logitRows: Tensor;
}

export class VisionLanguageModel implements LanguageModel {
  readonly backend: Backend;
  readonly config: ModelConfig;
  readonly vocabularySize: number;
  readonly contextTokensMax: number;
  readonly hiddenWidth: number;
  readonly tileSize: number;
  readonly tokensPerTile: number;
  readonly endTokenIds: readonly number[];
  readonly kvShape: LanguageModel["kvShape"];
  /** Set by parity checks only. */
  tap: Tap | undefined;
  readonly #parameters: Parameters;
  readonly #experts: ExpertExecutor;
  readonly #host: HostLayers | undefined;
  readonly #bounds: ModelBounds;
  readonly #ropeTable: Tensor;
  readonly #mergeOrders = new Map<number, Tensor>();
  readonly #inputs = new Map<string, { tensor: Tensor; values: Int32Array }>();
  /** Numbers of the storages that steps took their ids from. */
  readonly #sources = new WeakMap<Storage, number>();
  #sourceCount = 0;
  #visionWorkspace: ArenaWorkspace | undefined;
  #decoderWorkspace: ArenaWorkspace | undefined;

  constructor(args: {
    backend: Backend;
    config: ModelConfig;
    parameters: Parameters;
    experts?: ExpertExecutor;
    bounds?: Partial<ModelBounds>;
    /** Parts that another backend holds and computes. */
    host?: HostPlacement;
  }) {
    const { backend, config, parameters } = args;
    const { decoder } = config;
    this.backend = backend;
    this.config = config;
    this.#parameters = parameters;
    this.#bounds = { ...defaultBounds, ...args.bounds };
    this.#host = args.host && new HostLayers(backend, args.host);
    const local = args.experts ?? new LocalExperts(sparseLayers(parameters));
    const isPlaced = args.host && args.host.parts.expertLayers.size > 0;
    this.#experts = isPlaced ? new PlacedExperts(this.#host!, local) : local;
    this.vocabularySize = parameters.decoder.embedding.rows;
    this.contextTokensMax = Math.min(decoder.contextTokensMax, this.#bounds.contextTokens);
    this.hiddenWidth = decoder.hiddenWidth;
    this.tileSize = config.preprocess.tileSize;
    this.tokensPerTile = tokensPerTile(config);
    this.endTokenIds = decoder.endTokenIds;
    const { layers, kvHeads, headWidth } = decoder;
    this.kvShape = { layers, kvHeads, headWidth };
    this.#ropeTable = backend.allocate("f32", [this.contextTokensMax, headWidth]);
    backend.write(
      this.#ropeTable,
      ropeTable(this.contextTokensMax, headWidth, decoder.ropeTheta),
    );
  }

  async encodeTiles(tiles: Tensor, count: number, out: Tensor): Promise<void> {
    const { stepTiles } = this.#bounds;
    assert(count <= stepTiles, `${count} tiles in one step, at most ${stepTiles}`);
    if (count === 0) return;
    const grid = this.#tileGrid;
    const { position } = this.#parameters.vision;
    const order = this.#mergeOrder(count);
    if (this.#host?.parts.vision) {
      return await this.#host.run({ inputs: [tiles], out }, (program, [pixels]) => {
        const result = program.workspace.tensor("f32", out.shape);
        const call = { pixels: pixels!, count, grid, position, order, out: result };
        this.#recordVision(program, call);
        return result;
      });
    }
    this.#visionWorkspace ??= ArenaWorkspace.allocate(
      this.backend,
      this.#measureVision(stepTiles, grid),
    );
    this.#visionWorkspace.release(0);
    const program = { ops: this.backend.ops, workspace: this.#visionWorkspace, tap: this.tap };
    this.#recordVision(program, { pixels: tiles, count, grid, position, order, out });
  }

  async encodePicture(picture: PictureInput, out: Tensor): Promise<void> {
    const { config } = this;
    const backend = this.#visionBackend;
    const { patchSize, hiddenWidth: width } = config.vision;
    const grid = { rows: picture.height / patchSize, columns: picture.width / patchSize };
    const factor = config.mergeFactor;
    assert(
      grid.rows % factor === 0 && grid.columns % factor === 0,
      `picture ${picture.width}x${picture.height} is not a multiple of ${patchSize * factor}`,
    );
    const { rows: side } = this.#tileGrid;
    const trained = await backend.read(this.#parameters.vision.position) as Float32Array;
    const positions = interpolatePositions(trained, { side, width, ...grid });
    const order = mergeOrder({ grid, factor, order: config.mergeOrder, count: 1 });
    const held = {
      pixels: backend.allocate("u8", [grid.rows * grid.columns, patchSize, patchSize, 3]),
      position: backend.allocate("f32", [grid.rows * grid.columns, width]),
      order: backend.allocate("i32", [order.length]),
      ...backend !== this.backend && { out: backend.allocate("f32", out.shape) },
    };
    const scratch = backend.allocate("u8", [this.#measureVision(1, grid)]);
    try {
      backend.write(held.pixels, patchPixels(picture, patchSize));
      backend.write(held.position, positions);
      backend.write(held.order, order);
      const workspace = new ArenaWorkspace(scratch);
      const program = { ops: backend.ops, workspace, tap: this.tap };
      this.#recordVision(program, { out, ...held, count: 1, grid });
      await backend.flush();
      if (held.out) this.backend.write(out, await backend.read(held.out));
    } finally {
      for (const tensor of [...Object.values(held), scratch]) backend.free(tensor);
    }
  }

  async forward(input: StepInput, cache: KvCache): Promise<Tensor> {
    const rows = input.tokenIds.length;
    const { stepTokens, logitRows } = this.#bounds;
    assert(rows <= stepTokens, `${rows} rows in one step, at most ${stepTokens}`);
    assert(input.logitRows.length <= logitRows, `${input.logitRows.length} logit rows`);
    this.#decoderWorkspace ??= ArenaWorkspace.allocate(this.backend, await this.#measureDecoder());
    const tensors: DecoderTensors = {
      rowIndex: input.tokenSource ?? this.#input("tokenIds", input.tokenIds),
      step: this.#stepTensors(input),
      logitRows: this.#input("logitRows", input.logitRows),
    };
    const record = () => this.#recordDecoder(input, tensors, cache);
    const { backend } = this;
    if (!backend.repeat || !this.#isRepeatable(input)) return await record();
    const shape = [rows, input.logitRows.length, ...tensors.step.pageTable.shape];
    const key = [...shape, this.#sourceName(input.tokenSource)].join("/");
    return await backend.repeat({ owner: cache, key }, record);
  }

  /** Tells where the ids of a step come from. */
  #sourceName(source: Tensor | undefined): string {
    if (source === undefined) return "host";
    const { storage, byteOffset } = source;
    let number = this.#sources.get(storage);
    if (number === undefined) this.#sources.set(storage, number = ++this.#sourceCount);
    return `${number}+${byteOffset}`;
  }

  /** Whether the same shapes of inputs mean the same records. */
  #isRepeatable({ tokenIds, splices }: StepInput): boolean {
    return splices.length === 0 && tokenIds.length <= REPEATED_ROWS_MAX && this.tap === undefined &&
      this.#experts.reserve === undefined;
  }

  async #recordDecoder(
    input: StepInput,
    { rowIndex, step, logitRows }: DecoderTensors,
    cache: KvCache,
  ): Promise<Tensor> {
    const workspace = this.#decoderWorkspace!;
    workspace.release(0);
    const program = { ops: this.backend.ops, workspace, tap: this.tap };
    const { ops } = program;
    const hidden = workspace.tensor("f32", [input.tokenIds.length, this.hiddenWidth]);
    ops.gatherRows({ table: this.#parameters.decoder.embedding, rowIndex, out: hidden });
    for (const splice of input.splices) {
      ops.copyRows({
        source: sliceRows(splice.source, splice.sourceRow, splice.rowCount),
        out: sliceRows(hidden, splice.stepRow, splice.rowCount),
        width: this.hiddenWidth,
        rowCount: splice.rowCount,
      });
    }
    return await decode(program, hidden, {
      config: this.config.decoder,
      parameters: this.#parameters.decoder,
      experts: this.#experts,
      host: this.#host,
      cache,
      step,
      logitRows,
    });
  }

  #stepTensors(input: StepInput): StepTensors {
    const pages = input.sequences === 0 ? 0 : input.pageTable.length / input.sequences;
    return {
      position: this.#input("positions", input.positions),
      slot: this.#input("slots", input.slots),
      rowSequence: this.#input("rowSequence", input.rowSequence),
      rowLength: this.#input("rowLength", input.positions.map((position) => position + 1)),
      pageTable: this.#input("pageTable", input.pageTable, [input.sequences, pages]),
      ropeTable: this.#ropeTable,
    };
  }

  /**
   * Host values of the current step, in storage that is kept and only ever grows. Ops only read
   * them, so values of the last step need no writing.
   */
  #input(name: string, values: Int32Array, shape: readonly number[] = [values.length]): Tensor {
    let held = this.#inputs.get(name);
    if (held === undefined || held.tensor.shape[0]! < values.length) {
      if (held) this.backend.free(held.tensor);
      const tensor = this.backend.allocate("i32", [Math.max(64, 2 * values.length)]);
      this.#inputs.set(name, held = { tensor, values: new Int32Array(0) });
    }
    const isKnown = values.length === held.values.length &&
      values.every((value, i) => value === held.values[i]);
    if (!isKnown) {
      this.backend.write({ ...held.tensor, shape: [values.length] }, values);
      held.values = values.slice();
    }
    return { ...held.tensor, shape };
  }

  get #visionBackend(): Backend {
    return this.#host?.parts.vision ? this.#host.backend : this.backend;
  }

  get #tileGrid(): PatchGrid {
    const side = this.tileSize / this.config.vision.patchSize;
    return { rows: side, columns: side };
  }

  #mergeOrder(count: number): Tensor {
    let order = this.#mergeOrders.get(count);
    if (order === undefined) {
      const values = mergeOrder({
        grid: this.#tileGrid,
        factor: this.config.mergeFactor,
        order: this.config.mergeOrder,
        count,
      });
      order = this.#visionBackend.allocate("i32", [values.length]);
      this.#visionBackend.write(order, values);
      this.#mergeOrders.set(count, order);
    }
    return order;
  }

  #recordVision(
    program: Program,
    call: {
      pixels: Tensor;
      count: number;
      grid: PatchGrid;
      position: Tensor;
      order: Tensor;
      out: Tensor;
    },
  ): void {
    const { config } = this;
    const parameters = this.#parameters;
    const features = visionFeatures(program, { ...call, config, parameters: parameters.vision });
    const { order, out } = call;
    adapt(program, { features, order, config, parameters: parameters.adapter, out });
  }

  /** Bytes of the scratch memory that a full decoder step and a full batch of tiles take. */
  async scratchBytes(): Promise<number> {
    return this.#measureVision(this.#bounds.stepTiles, this.#tileGrid) +
      await this.#measureDecoder();
  }

  #measureVision(count: number, grid: PatchGrid): number {
    const workspace = new ArenaWorkspace(undefined);
    const { patchSize } = this.config.vision;
    const patches = count * grid.rows * grid.columns;
    const tokens = patches / this.config.mergeFactor ** 2;
    this.#recordVision({ ops: measuringOps, workspace, tap: undefined }, {
      pixels: fakeTensor("u8", [patches, patchSize, patchSize, 3]),
      count,
      grid,
      position: this.#parameters.vision.position,
      order: fakeTensor("i32", [patches]),
      out: fakeTensor("f32", [tokens, this.hiddenWidth]),
    });
    return workspace.peakBytes;
  }

  async #measureDecoder(): Promise<number> {
    const workspace = new ArenaWorkspace(undefined);
    const { stepTokens, logitRows } = this.#bounds;
    const hidden = workspace.tensor("f32", [stepTokens, this.hiddenWidth]);
    const rows = fakeTensor("i32", [stepTokens]);
    await decode({ ops: measuringOps, workspace, tap: undefined }, hidden, {
      config: this.config.decoder,
      parameters: this.#parameters.decoder,
      experts: reserving(this.#experts),
      cache: { format: "f32", pages: 0, pageTokens: 1, ...this.kvShape, storage: noStorage },
      step: {
        position: rows,
        slot: rows,
        rowSequence: rows,
        rowLength: rows,
        pageTable: fakeTensor("i32", [0, 0]),
        ropeTable: this.#ropeTable,
      },
      logitRows: fakeTensor("i32", [logitRows]),
    });
    return workspace.peakBytes;
  }
}

/** Measures: takes no part in anything outside the program. */
function reserving(experts: ExpertExecutor): ExpertExecutor {
  if (!experts.reserve) return experts;
  return {
    run(program, call) {
      experts.reserve!(program, call);
      return Promise.resolve();
    },
  };
}

const noStorage = { sizeBytes: 0 };

function fakeTensor(dtype: Tensor["dtype"], shape: readonly number[]): Tensor {
  return { dtype, shape, storage: noStorage, byteOffset: 0 };
}

/** [H, W, 3] -> [N, P, P, 3]: every patch as a picture of its own, row-major. */
function patchPixels(picture: PictureInput, patchSize: number): Uint8Array {
  const { width, height, pixels } = picture;
  const out = new Uint8Array(pixels.length);
  const lineBytes = patchSize * 3;
  let at = 0;
  for (let top = 0; top < height; top += patchSize) {
    for (let left = 0; left < width; left += patchSize) {
      for (let y = 0; y < patchSize; y++) {
        const start = ((top + y) * width + left) * 3;
        out.set(pixels.subarray(start, start + lineBytes), at);
        at += lineBytes;
      }
    }
  }
  return out;
}

function sparseLayers(parameters: Parameters): Map<number, MoeParameters> {
  const layers = new Map<number, MoeParameters>();
  for (const [index, { feedForward }] of parameters.decoder.layers.entries()) {
    if (feedForward.kind === "sparse") layers.set(index, feedForward.moe);
  }
  return layers;
}

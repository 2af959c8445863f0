/**
 * Executes plans on a model: owns the KV cache and the encoded tiles, turns a plan into arrays,
 * and brings ids back. It decides nothing.
 */
import { assert } from "@/assert.ts";
import type { KvCache, KvFormat } from "@/kernels/backend.ts";
import { limits } from "@/limits.ts";
import type { LanguageModel, StepInput } from "@/model/language_model.ts";
import { GrowingTensor } from "@/sampling/growing_tensor.ts";
import { type SampledRow, Sampler } from "@/sampling/sampler.ts";
import { sliceRows, type Tensor } from "@/tensor/tensor.ts";
import { aheadInput } from "./ahead_input.ts";
import type { Plan, PlannedTile, StepResult } from "./plan.ts";

/** Bytes of one KV page: keys and values of all layers. */
export function kvPageBytes(
  shape: LanguageModel["kvShape"],
  options: { format: KvFormat; pageTokens: number },
): number {
  const { format, pageTokens } = options;
  const headBytes = format === "f32"
    ? 4 * shape.headWidth
    : format === "f16"
    ? 2 * shape.headWidth
    : shape.headWidth + 4; // q8: codes and one scale
  return 2 * shape.layers * shape.kvHeads * pageTokens * headBytes;
}

/** Bytes of one encoded tile or whole picture of so many visual tokens. */
export function encodedBytes(model: LanguageModel, tokens: number): number {
  return 4 * tokens * model.hiddenWidth;
}

export class Runner {
  readonly #model: LanguageModel;
  readonly #cache: KvCache;
  readonly #sampler: Sampler;
  readonly #pixels: GrowingTensor;
  readonly #encoded: GrowingTensor;
  /** Visual tokens by slot of the vision cache, [tokens, hiddenWidth] each. */
  readonly #slots = new Map<number, Tensor>();
  /** Encoded tiles from elsewhere, by hash, until their step comes; oldest first. */
  readonly #offered = new Map<string, Float32Array>();
  #offeredBytes = 0;

  /** `allowed` is the mask of ids that may be drawn. */
  constructor(args: {
    model: LanguageModel;
    kv: { format: KvFormat; pages: number; pageTokens: number };
    allowed: Int32Array;
  }) {
    const { model, kv } = args;
    const { backend, kvShape } = model;
    this.#model = model;
    this.#cache = backend.createKvCache({ ...kvShape, ...kv });
    this.#sampler = new Sampler(backend, args.allowed);
    this.#pixels = new GrowingTensor(backend, "u8");
    this.#encoded = new GrowingTensor(backend, "f32");
  }

  /**
   * Takes the visual tokens of a tile, so that it need not be encoded: float32
   * [tokensPerTile, hiddenWidth] as bytes. What is offered longest ago makes room.
   */
  offerTile(hash: string, bytes: Uint8Array): void {
    const { tokensPerTile, hiddenWidth } = this.#model;
    if (bytes.length !== 4 * tokensPerTile * hiddenWidth) return;
    this.#withdraw(hash);
    this.#offered.set(hash, new Float32Array(bytes.slice().buffer));
    this.#offeredBytes += bytes.length;
    while (this.#offeredBytes > limits.cacheRestoreBytesMax) {
      const [oldest] = this.#offered.keys();
      this.#withdraw(oldest!);
    }
  }

  /** Bytes of a KV page; only between steps. */
  readPage(page: number): Promise<Uint8Array> {
    return this.#model.backend.readKvPage(this.#cache, page);
  }

  /** Puts back a KV page that no step uses; throws RangeError for another size. */
  writePage(page: number, bytes: Uint8Array): void {
    this.#model.backend.writeKvPage(this.#cache, page, bytes);
  }

  /** Visual tokens in a slot, as bytes; only between steps. */
  async readSlot(slot: number): Promise<Uint8Array> {
    const tensor = this.#slots.get(slot);
    assert(tensor !== undefined, `slot ${slot} holds no tile`);
    const { buffer, byteOffset, byteLength } = await this.#model.backend.read(tensor);
    return new Uint8Array(buffer, byteOffset, byteLength);
  }

  /** Runs one step. On failure nothing recorded is left behind. */
  async run(plan: Plan): Promise<StepResult & { encoded: readonly PlannedTile[] }> {
    const { backend } = this.#model;
    try {
      const encoded = plan.tiles.filter((tile) => !this.#useOffered(tile));
      await this.#encode(encoded.filter((tile) => tile.picture === undefined));
      await this.#encodePictures(plan.tiles);
      const logits = await this.#model.forward(this.#stepInput(plan), this.#cache);
      const read = this.#sampler.record(logits, plan.logitRows.map((row) => row.sampling));
      await backend.flush();
      return { rows: await read(), encoded };
    } catch (error) {
      // What the failed step left recorded must not run inside the next one.
      await backend.flush().catch((cause: unknown) => {
        throw new AggregateError([error, cause], "Cannot run a step, nor clear what it recorded");
      });
      throw error;
    }
  }

  /**
   * Runs a plan and its steps ahead, `inFlight` of them on their way at a time. `take` gets the
   * results step by step; no more are begun once it returns false. Returns how many there were.
   */
  async runAhead(plan: Plan, options: {
    inFlight: number;
    take: (step: number, result: StepResult) => boolean;
  }): Promise<number> {
    const { backend } = this.#model;
    const pending: Promise<SampledRow[]>[] = [];
    const steps = 1 + plan.ahead!.steps;
    let begun = 0;
    let taken = 0;
    try {
      for (let goesOn = true; goesOn || pending.length > 0;) {
        if (goesOn && pending.length < options.inFlight) {
          const { results } = await this.#begin(plan, begun++);
          results.catch(() => {}); // it is awaited in its turn
          pending.push(results);
          goesOn = begun < steps;
          continue;
        }
        const rows = await pending.shift()!;
        goesOn = options.take(taken++, { rows }) && goesOn;
      }
      return taken;
    } catch (error) {
      await Promise.allSettled(pending);
      await backend.flush().catch((cause: unknown) => {
        throw new AggregateError([error, cause], "Cannot run a step, nor clear what it recorded");
      });
      throw error;
    }
  }

  /** Hands one step to the backend; what it returns comes with the results. */
  async #begin(plan: Plan, step: number): Promise<{ results: Promise<SampledRow[]> }> {
    const rows = plan.chunks.length;
    const { pageTokens } = this.#cache;
    const [input, sampling] = step === 0
      ? [this.#stepInput(plan), plan.logitRows.map((row) => row.sampling)]
      : [
        aheadInput(plan, { step, pageTokens, tokenSource: this.#sampler.drawnIds(rows) }),
        plan.ahead!.sampling[step - 1]!,
      ];
    const logits = await this.#model.forward(input, this.#cache);
    const read = this.#sampler.record(logits, sampling);
    await this.#model.backend.flush();
    return { results: read() };
  }

  /** Frees everything; the backend and the model stay open. */
  close(): void {
    const { backend } = this.#model;
    for (const tensor of this.#slots.values()) backend.free(tensor);
    this.#slots.clear();
    this.#pixels.close();
    this.#encoded.close();
    this.#sampler.close();
    backend.free(this.#cache);
  }

  /** Fills a tile's slot with what was offered for it, if anything was. */
  #useOffered({ hash, slot, picture }: PlannedTile): boolean {
    const values = picture === undefined ? this.#offered.get(hash) : undefined;
    if (values === undefined) return false;
    this.#model.backend.write(this.#slotOf(slot, this.#model.tokensPerTile), values);
    this.#withdraw(hash);
    return true;
  }

  #withdraw(hash: string): void {
    this.#offeredBytes -= this.#offered.get(hash)?.byteLength ?? 0;
    this.#offered.delete(hash);
  }

  /** Records the vision tower for new tiles and moves each result to its slot. */
  async #encode(tiles: readonly PlannedTile[]): Promise<void> {
    if (tiles.length === 0) return;
    const { backend, tileSize, tokensPerTile, hiddenWidth } = this.#model;
    const pixelBytes = tileSize * tileSize * 3;
    const pixels = new Uint8Array(tiles.length * pixelBytes);
    for (const [index, tile] of tiles.entries()) {
      assert(tile.pixels.length === pixelBytes, `tile of ${tile.pixels.length} bytes`);
      pixels.set(tile.pixels, index * pixelBytes);
    }
    const input = this.#pixels.write(pixels, [tiles.length, tileSize, tileSize, 3]);
    const out = this.#encoded.view([tiles.length * tokensPerTile, hiddenWidth]);
    await this.#model.encodeTiles(input, tiles.length, out);
    for (const [index, { slot }] of tiles.entries()) {
      backend.ops.copyRows({
        source: sliceRows(out, index * tokensPerTile, tokensPerTile),
        out: this.#slotOf(slot, tokensPerTile),
        width: hiddenWidth,
        rowCount: tokensPerTile,
      });
    }
  }

  /** Whole pictures, one by one: each has its own grid and positions. */
  async #encodePictures(tiles: readonly PlannedTile[]): Promise<void> {
    const { backend } = this.#model;
    for (const { slot, pixels, picture } of tiles) {
      if (picture === undefined) continue;
      assert(this.#model.encodePicture !== undefined, "the model encodes whole pictures");
      // Growing a slot frees storage that recorded ops may name.
      await backend.flush();
      const { width, height, tokens } = picture;
      await this.#model.encodePicture({ width, height, pixels }, this.#slotOf(slot, tokens));
    }
  }

  /** The tensor of a slot, made anew when it held another number of tokens. */
  #slotOf(slot: number, tokens: number): Tensor {
    const held = this.#slots.get(slot);
    if (held?.shape[0] === tokens) return held;
    const { backend, hiddenWidth } = this.#model;
    if (held !== undefined) backend.free(held);
    const tensor = backend.allocate("f32", [tokens, hiddenWidth]);
    this.#slots.set(slot, tensor);
    return tensor;
  }

  #stepInput(plan: Plan): StepInput {
    const { chunks, rowCount } = plan;
    const pageColumns = Math.max(0, ...chunks.map((chunk) => chunk.pages.length));
    const input = {
      tokenIds: new Int32Array(rowCount),
      positions: new Int32Array(rowCount),
      slots: new Int32Array(rowCount),
      rowSequence: new Int32Array(rowCount),
      pageTable: new Int32Array(chunks.length * pageColumns),
      sequences: chunks.length,
      splices: plan.splices.map(({ slot, ...splice }) => ({
        source: this.#slots.get(slot)!,
        ...splice,
      })),
      logitRows: Int32Array.from(plan.logitRows, (row) => row.stepRow),
    };
    const { pageTokens } = this.#cache;
    let row = 0;
    for (const [sequence, { start, tokenIds, pages }] of chunks.entries()) {
      input.pageTable.set(pages, sequence * pageColumns);
      for (const [offset, id] of tokenIds.entries()) {
        const position = start + offset;
        input.tokenIds[row] = id;
        input.positions[row] = position;
        input.rowSequence[row] = sequence;
        input.slots[row] = pages[Math.floor(position / pageTokens)]! * pageTokens +
          position % pageTokens;
        row += 1;
      }
    }
    assert(row === rowCount, `${row} rows laid out of ${rowCount}`);
    return input;
  }
}

/**
 * A language model small enough to simulate thousands of requests, whose next token depends on
 * every earlier (token, position, picture) through a real KV store: a wrong page, slot, splice or
 * prefix changes the tokens. Plus the same function computed directly, as the oracle.
 */
import { assert } from "@/assert.ts";
import type { OperatingError } from "@/errors.ts";
import type { Backend, KvCache } from "@/kernels/backend.ts";
import { recordingOps } from "@/kernels/reference/recorder.ts";
import { f32View, HostStorage, i32View, u8View, viewOf } from "@/kernels/reference/storage.ts";
import type { LanguageModel, StepInput } from "@/model/language_model.ts";
import { hashWords, mix32 } from "@/random.ts";
import { type DType, dtypeBytes, elementCount } from "@/tensor/dtype.ts";
import type { Storage, Tensor } from "@/tensor/tensor.ts";

export const TILE_SIZE = 2;
export const TOKENS_PER_TILE = 5;
export const VOCABULARY = 48;
/** Ids from here on are padding. */
export const USABLE_VOCABULARY = 44;
export const IMAGE_ID = 3;
export const END_IDS = [1, 2];

/** What one token leaves in the cache: like real keys and values, it depends on all before it. */
function kvWord(embedding: number, position: number, history: number): number {
  return hashWords(embedding, position, history);
}

function foldWord(history: number, word: number): number {
  return mix32(Math.imul(history, 31) + word);
}

/** After most tokens one other is likely, as in text that repeats itself. */
const HABIT = 6;

/** Logits [VOCABULARY] after a history that ends in `last`. Roughly uniform in [-4, 4], but one. */
function logitsOf(after: { history: number; last: number }, out: Float32Array): void {
  const { history, last } = after;
  for (let id = 0; id < VOCABULARY; id++) {
    out[id] = mix32(history ^ Math.imul(id + 1, 0x9e3779b1)) / 2 ** 32 * 8 - 4;
  }
  if (last % 5 > 0) out[4 + last * 3 % 9]! += HABIT;
}

/** Embedding of visual token `row` of a tile: a 20-bit word of all its pixels. */
function visualWord(pixels: Uint8Array, row: number): number {
  return hashWords(...pixels, row) >>> 12;
}

/** Logits after a whole history, computed without pages, steps or caches. Tiles may reach beyond. */
export function directLogits(
  tokenIds: readonly number[],
  tiles: readonly { readonly start: number; readonly pixels: Uint8Array }[],
): Float32Array {
  const embeddings = [...tokenIds];
  for (const { start, pixels } of tiles) {
    const end = Math.min(start + TOKENS_PER_TILE, tokenIds.length);
    for (let t = start; t < end; t++) embeddings[t] = visualWord(pixels, t - start);
  }
  let history = 0;
  for (const [t, embedding] of embeddings.entries()) {
    history = foldWord(history, kvWord(embedding, t, history));
  }
  const logits = new Float32Array(VOCABULARY);
  logitsOf({ history, last: embeddings.at(-1)! }, logits);
  return logits;
}

class FakeKvStorage implements Storage {
  readonly words: Float64Array;
  constructor(slots: number) {
    this.words = new Float64Array(slots).fill(NaN);
  }
  get sizeBytes(): number {
    return this.words.byteLength;
  }
}

/** Real storages, `copyRows` and `sample`; other programs are recorded as closures. */
export class FakeBackend implements Backend {
  readonly name = "reference";
  readonly description = { variant: "fake", reason: "test", threads: 1, numericClass: "fake" };
  readonly ops = recordingOps((run) => this.record(run));
  /** Throws instead of running the flushes for which it returns an error. */
  failure: () => Error | undefined = () => undefined;
  /** Awaited by every flush. */
  pace: () => Promise<void> = () => Promise.resolve();
  /** Awaited by every read after its values are taken: the way back from a device. */
  arrival: () => Promise<void> = () => Promise.resolve();
  programsInFlight = 1;
  lost: OperatingError | undefined;
  /** Most programs whose results were on their way at a time. */
  mostInFlight = 0;
  /** Reads by the number of flushes before them. */
  readonly #onTheWay = new Map<number, number>();
  #flushes = 0;
  readonly storages = new Set<Storage>();
  #recorded: (() => void)[] = [];

  record(run: () => void): void {
    this.#recorded.push(run);
  }

  allocate(dtype: DType, shape: readonly number[]): Tensor {
    const storage = new HostStorage(dtypeBytes[dtype] * elementCount(shape));
    this.storages.add(storage);
    return { dtype, shape, storage, byteOffset: 0 };
  }

  free(item: { readonly storage: Storage }): void {
    assert(this.storages.delete(item.storage), "freed twice");
  }

  createKvCache(options: Omit<KvCache, "storage">): KvCache {
    const storage = new FakeKvStorage(options.pages * options.pageTokens);
    this.storages.add(storage);
    return { ...options, storage };
  }

  async readKvPage(cache: KvCache, page: number): Promise<Uint8Array<ArrayBuffer>> {
    await this.flush();
    const { words } = cache.storage as FakeKvStorage;
    const part = words.slice(page * cache.pageTokens, (page + 1) * cache.pageTokens);
    return new Uint8Array(part.buffer);
  }

  writeKvPage(cache: KvCache, page: number, bytes: Uint8Array): void {
    const { words } = cache.storage as FakeKvStorage;
    if (bytes.length !== 8 * cache.pageTokens) throw new RangeError(`${bytes.length} bytes`);
    words.set(new Float64Array(bytes.slice().buffer), page * cache.pageTokens);
  }

  write(tensor: Tensor, values: Float32Array | Int32Array | Uint8Array): void {
    viewOf(tensor).set(values);
  }

  async read(tensor: Tensor): Promise<Float32Array | Int32Array | Uint8Array> {
    if (this.#recorded.length > 0) await this.flush();
    // At once, as a device copies them: the next program may follow before they arrive.
    const values = viewOf(tensor).slice();
    const version = this.#flushes;
    this.#onTheWay.set(version, (this.#onTheWay.get(version) ?? 0) + 1);
    this.mostInFlight = Math.max(this.mostInFlight, this.#onTheWay.size);
    await this.arrival();
    const left = this.#onTheWay.get(version)! - 1;
    if (left > 0) this.#onTheWay.set(version, left);
    else this.#onTheWay.delete(version);
    return values;
  }

  async flush(): Promise<void> {
    const program = this.#recorded;
    this.#recorded = [];
    if (program.length === 0) return;
    await this.pace();
    const error = this.failure();
    if (error) throw error;
    for (const run of program) run();
    this.#flushes += 1;
  }

  usedBytes(): number {
    let total = 0;
    for (const storage of this.storages) total += storage.sizeBytes;
    return total;
  }

  createMatrix(): never {
    throw new Error("the fake has no weights");
  }
  packRows(): never {
    throw new Error("the fake has no weights");
  }
  readPanels(): never {
    throw new Error("the fake has no weights");
  }
  writePanels(): never {
    throw new Error("the fake has no weights");
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

export class FakeModel implements LanguageModel {
  readonly backend: FakeBackend;
  readonly vocabularySize = VOCABULARY;
  readonly contextTokensMax: number;
  readonly hiddenWidth = 1;
  readonly tileSize = TILE_SIZE;
  readonly tokensPerTile = TOKENS_PER_TILE;
  readonly endTokenIds = END_IDS;
  readonly kvShape = { layers: 1, kvHeads: 1, headWidth: 1 };
  /** Every tile encoded so far, as its pixels. */
  readonly encoded: string[] = [];
  /** Share of histories after which it says something else. */
  readonly #mistakes: number;

  constructor(options: { contextTokens: number; backend?: FakeBackend; mistakes?: number }) {
    this.contextTokensMax = options.contextTokens;
    this.backend = options.backend ?? new FakeBackend();
    this.#mistakes = options.mistakes ?? 0;
  }

  encodeTiles(tiles: Tensor, count: number, out: Tensor): Promise<void> {
    const pixels = u8View(tiles);
    const bytes = TILE_SIZE * TILE_SIZE * 3;
    const words = f32View(out);
    this.backend.record(() => {
      for (let t = 0; t < count; t++) {
        const tile = pixels.slice(t * bytes, (t + 1) * bytes);
        this.encoded.push(tile.join(","));
        for (let i = 0; i < TOKENS_PER_TILE; i++) {
          words[t * TOKENS_PER_TILE + i] = visualWord(tile, i);
        }
      }
    });
    return Promise.resolve();
  }

  forward(input: StepInput, cache: KvCache): Promise<Tensor> {
    const logits = this.backend.allocate("f32", [input.logitRows.length, VOCABULARY]);
    const views = input.splices.map((splice) => ({ ...splice, words: f32View(splice.source) }));
    this.backend.record(() => {
      const ids = input.tokenSource ? i32View(input.tokenSource) : input.tokenIds;
      const embeddings = Float64Array.from(ids);
      for (const { words, sourceRow, stepRow, rowCount } of views) {
        for (let i = 0; i < rowCount; i++) embeddings[stepRow + i] = words[sourceRow + i]!;
      }
      const histories = runRows({ input, cache, embeddings });
      const out = f32View(logits);
      for (const [k, row] of input.logitRows.entries()) {
        const history = histories[row]!;
        const isWrong = mix32(history) / 2 ** 32 < this.#mistakes;
        const after = { history: isWrong ? history + 1 : history, last: embeddings[row]! };
        logitsOf(after, out.subarray(k * VOCABULARY, (k + 1) * VOCABULARY));
      }
    });
    this.backend.storages.delete(logits.storage); // nobody frees it: it is the model's own
    return Promise.resolve(logits);
  }
}

/** Writes every row's word to its slot; returns the history after each row. */
function runRows(
  args: { input: StepInput; cache: KvCache; embeddings: Float64Array },
): number[] {
  const { input, cache, embeddings } = args;
  const { words } = cache.storage as FakeKvStorage;
  const histories: number[] = [];
  for (const [row, slot] of input.slots.entries()) {
    const history = readHistory({ input, cache, row });
    const word = kvWord(embeddings[row]!, input.positions[row]!, history);
    if (slot >= 0) words[slot] = word;
    histories.push(foldWord(history, word));
  }
  return histories;
}

/** Folds the words of all tokens before a row, found through the page table. */
function readHistory(args: { input: StepInput; cache: KvCache; row: number }): number {
  const { input, cache, row } = args;
  const { words } = cache.storage as FakeKvStorage;
  const columns = input.pageTable.length / input.sequences;
  let history = 0;
  for (let t = 0; t < input.positions[row]!; t++) {
    const column = Math.floor(t / cache.pageTokens);
    const page = input.pageTable[input.rowSequence[row]! * columns + column]!;
    const word = words[page * cache.pageTokens + t % cache.pageTokens]!;
    assert(!Number.isNaN(word), `row ${row} reads token ${t}, which was never written`);
    history = foldWord(history, word);
  }
  return history;
}

/**
 * All that the engine sees of a model: record one step, encode tiles, own the KV cache's shape.
 * `vlm.ts` implements it with the op vocabulary; engine tests use small fakes.
 */
import type { Backend, KvCache } from "@/kernels/backend.ts";
import type { Tensor } from "@/tensor/tensor.ts";

/** Visual tokens that replace placeholder rows of a step. */
export interface Splice {
  /** Encoded tile, [tokensPerTile, hiddenWidth]. */
  readonly source: Tensor;
  /** First row taken from the source. */
  readonly sourceRow: number;
  /** First step row it replaces. */
  readonly stepRow: number;
  readonly rowCount: number;
}

/** One engine step over R token rows of S sequences. */
export interface StepInput {
  /** [R]; placeholder rows may hold any valid id. */
  readonly tokenIds: Int32Array;
  /** i32 [R] on the backend, read instead of `tokenIds` when the program runs. */
  readonly tokenSource?: Tensor;
  /** [R] positions in their sequences. */
  readonly positions: Int32Array;
  /** [R] KV slot of each row (page * pageTokens + offset). */
  readonly slots: Int32Array;
  /** [R] index into pageTable. */
  readonly rowSequence: Int32Array;
  /** [S][pagesMax] page indexes, row-major; unused entries 0. */
  readonly pageTable: Int32Array;
  readonly sequences: number;
  readonly splices: readonly Splice[];
  /** [K] step rows whose logits are wanted. */
  readonly logitRows: Int32Array;
}

/** A whole picture at its own size. */
export interface PictureInput {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;
}

export interface LanguageModel {
  readonly backend: Backend;
  /** Rows of the embedding table: ids are below this. */
  readonly vocabularySize: number;
  /** Positions the model allows. */
  readonly contextTokensMax: number;
  readonly hiddenWidth: number;
  readonly tileSize: number;
  readonly tokensPerTile: number;
  readonly endTokenIds: readonly number[];
  readonly kvShape: {
    readonly layers: number;
    readonly kvHeads: number;
    readonly headWidth: number;
  };

  /**
   * Records the vision tower and adapter for `count` tiles (u8 [count, S, S, 3]) and writes visual
   * tokens to `out` [count * tokensPerTile, hiddenWidth]. The caller flushes. Asynchronous because
   * another backend may compute it.
   */
  encodeTiles(tiles: Tensor, count: number, out: Tensor): Promise<void>;

  /**
   * AnyRes: encodes one whole picture (u8 [height, width, 3], sides multiples of the merged patch)
   * with interpolated positions and writes its visual tokens, row-major, to
   * `out` [visualTokens, hiddenWidth]. Flushes by itself.
   */
  readonly encodePicture?: (picture: PictureInput, out: Tensor) => Promise<void>;

  /**
   * Records one step and returns logits [K, vocabularySize], valid until the next call. The caller
   * flushes. Asynchronous because a program may be cut at remote layers.
   */
  forward(input: StepInput, cache: KvCache): Promise<Tensor>;
}

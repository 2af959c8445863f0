/** Mixture and packer as one stream of packed rounds, with one cursor that resumes it exactly. */
import { Mixture, type MixtureCursor, type MixtureSource } from "./mixture.ts";
import { type Pack, Packer, type PackerOptions, type Sized, type Waiting } from "./packer.ts";

/**
 * A sample's full name. `level` is the curriculum's level when it was drawn: a sample that waits
 * while the level rises stays what it was.
 */
export interface SampleReference {
  readonly source: string;
  readonly index: number;
  readonly epoch: number;
  readonly level: number;
}

/** Everything that a resumed stream needs; JSON. */
export interface StreamCursor {
  readonly mixture: MixtureCursor;
  readonly waiting: readonly Waiting<SampleReference>[];
  readonly refused: number;
  readonly level: number;
  readonly rounds: number;
}

export interface SampleStreamOptions<T extends Sized> {
  readonly sources: readonly MixtureSource[];
  readonly seed: number;
  readonly packing: PackerOptions;
  /** Reads or makes a sample; must depend on the reference alone. */
  readonly read: (reference: SampleReference) => Promise<T> | T;
}

export class SampleStream<T extends Sized> {
  readonly #mixture: Mixture;
  readonly #packer: Packer<SampleReference, T>;
  #level: number;
  #rounds: number;

  private constructor(options: SampleStreamOptions<T>, cursor: StreamCursor | undefined) {
    const { sources, seed, packing, read } = options;
    this.#mixture = new Mixture(sources, { seed, ...(cursor && { cursor: cursor.mixture }) });
    this.#level = cursor?.level ?? 0;
    this.#rounds = cursor?.rounds ?? 0;
    const draw = (): SampleReference => ({ ...this.#mixture.next(), level: this.#level });
    this.#packer = new Packer(packing, { draw, read });
  }

  /** Opens a stream at its beginning or at a cursor. */
  static async open<T extends Sized>(
    options: SampleStreamOptions<T>,
    cursor?: StreamCursor,
  ): Promise<SampleStream<T>> {
    const stream = new SampleStream(options, cursor);
    if (cursor) await stream.#packer.restore(cursor.waiting, cursor.refused);
    return stream;
  }

  get cursor(): StreamCursor {
    return {
      mixture: this.#mixture.cursor,
      waiting: this.#packer.waiting,
      refused: this.#packer.refused,
      level: this.#level,
      rounds: this.#rounds,
    };
  }

  /** The curriculum's level for samples drawn from now on. */
  setLevel(level: number): void {
    this.#level = level;
  }

  /** The packs of one step. */
  async nextRound(): Promise<Pack<T>[]> {
    const packs = await this.#packer.nextRound();
    this.#rounds++;
    return packs;
  }
}

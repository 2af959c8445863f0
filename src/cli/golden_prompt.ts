/**
 * One golden prompt on a model: its pictures encoded, its tokens in one step, its continuation. What
 * the parity checks compare comes from here.
 */
import type { KvCache } from "@/kernels/backend.ts";
import { limits } from "@/limits.ts";
import type { StepInput } from "@/model/language_model.ts";
import type { VisionLanguageModel } from "@/model/vlm.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { GoldenTensor } from "./parity_fixtures.ts";

/** Tokens of a golden continuation. */
export const GREEDY_TOKENS = 32;
/** Bounds of a model that takes a whole golden prompt, with all its pictures, in one step. */
export const promptBounds = { stepTokens: 4096, stepTiles: 64, logitRows: 4096 };

export class GoldenPrompt {
  /** The whole prompt, picture tokens included. */
  readonly ids: readonly number[];
  readonly #model: VisionLanguageModel;
  readonly #goldens: ReadonlyMap<string, GoldenTensor>;
  readonly #imageTokenId: number;
  readonly #cache: KvCache;
  #visual: Tensor | undefined;

  constructor(args: {
    model: VisionLanguageModel;
    goldens: ReadonlyMap<string, GoldenTensor>;
    imageTokenId: number;
  }) {
    this.#model = args.model;
    this.#goldens = args.goldens;
    this.#imageTokenId = args.imageTokenId;
    this.ids = [...args.goldens.get("input_ids")!.values];
    const pages = Math.ceil((this.ids.length + GREEDY_TOKENS) / limits.kvPageTokens);
    this.#cache = args.model.backend.createKvCache({
      format: "f32",
      pages,
      pageTokens: limits.kvPageTokens,
      ...args.model.kvShape,
    });
  }

  /** Visual tokens of the prompt's pictures; undefined when it has none. */
  get visual(): Tensor | undefined {
    return this.#visual;
  }

  async encode(): Promise<void> {
    const { backend, tokensPerTile, hiddenWidth } = this.#model;
    const golden = this.#goldens.get("tiles_u8");
    if (!golden || golden.shape[0] === 0) return;
    const count = golden.shape[0]!;
    const tiles = backend.allocate("u8", golden.shape);
    backend.write(tiles, golden.values);
    this.#visual = backend.allocate("f32", [count * tokensPerTile, hiddenWidth]);
    await this.#model.encodeTiles(tiles, count, this.#visual);
    await backend.flush();
    backend.free(tiles);
  }

  /** One step over `ids` from position `first`; logits of all rows or of the last. */
  async forward(ids: readonly number[], first: number, all: boolean): Promise<Tensor> {
    const positions = Int32Array.from(ids, (_, i) => first + i);
    const input: StepInput = {
      tokenIds: Int32Array.from(ids),
      positions,
      slots: positions,
      rowSequence: new Int32Array(ids.length),
      pageTable: Int32Array.from({ length: this.#cache.pages }, (_, i) => i),
      sequences: 1,
      splices: first === 0 ? this.#splices() : [],
      logitRows: all ? positions : Int32Array.of(ids.length - 1),
    };
    return await this.#model.forward(input, this.#cache);
  }

  free(): void {
    if (this.#visual) this.#model.backend.free(this.#visual);
    this.#model.backend.free(this.#cache);
  }

  #splices(): StepInput["splices"] {
    const splices: StepInput["splices"][number][] = [];
    let sourceRow = 0;
    for (let row = 0; row < this.ids.length; row++) {
      if (this.ids[row] !== this.#imageTokenId) continue;
      const start = row;
      while (this.ids[row] === this.#imageTokenId) row++;
      const rowCount = row - start;
      splices.push({ source: this.#visual!, sourceRow, stepRow: start, rowCount });
      sourceRow += rowCount;
    }
    return splices;
  }
}

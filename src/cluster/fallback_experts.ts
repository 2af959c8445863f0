/**
 * Experts that a front computes itself because nobody else answers: read from disk when they are
 * needed, the last used ones kept. One call after the other.
 */
import type { ExpertPairs } from "@/model/expert_bank.ts";
import type { ExpertComputer } from "./expert_server.ts";

export class FallbackExperts {
  readonly #experts: ExpertComputer;
  readonly #keptMax: number;
  /** Held experts by "layer/expert", least recently used first. */
  readonly #held = new Map<string, { layer: number; expert: number }>();
  #turn: Promise<unknown> = Promise.resolve();

  /** Keeps up to `keptMax` experts between calls. */
  constructor(experts: ExpertComputer, options: { keptMax: number }) {
    this.#experts = experts;
    this.#keptMax = options.keptMax;
  }

  /** Results [P, H] in the order of the pairs; experts that are not held are loaded. */
  compute(pairs: ExpertPairs): Promise<Float32Array> {
    const result = this.#turn.then(() => this.#compute(pairs));
    // The next one takes its turn whatever came of this one, which tells its own caller.
    this.#turn = result.then(() => {}, () => {});
    return result;
  }

  async #compute(pairs: ExpertPairs): Promise<Float32Array> {
    const { layer } = pairs;
    for (const expert of new Set(Array.from(pairs.expertOfPair))) {
      const key = `${layer}/${expert}`;
      await this.#experts.load({ layer, expert });
      this.#held.delete(key);
      this.#held.set(key, { layer, expert });
    }
    const values = new Float32Array(pairs.expertOfPair.length * this.#experts.width);
    await this.#experts.compute(pairs, values);
    for (const [key, place] of this.#held) {
      if (this.#held.size <= this.#keptMax) break;
      this.#held.delete(key);
      this.#experts.drop(place);
    }
    return values;
  }
}

/** Synthetic gates with a skew: tokens that choose their top experts by Zipf popularity. */
import { seededRandom } from "@/random.ts";

export interface SkewedGate {
  readonly experts: number;
  readonly choices: number;
  /** Exponent of Zipf's law; 0 is even. */
  readonly skew: number;
}

/** [tokens][choices] distinct experts per token; popularity ranks are shuffled over experts. */
export function skewedTokens(gate: SkewedGate, args: { tokens: number; seed: number }): number[][] {
  const random = seededRandom(args.seed);
  const ranks = Array.from({ length: gate.experts }, (_, i) => i);
  for (let i = ranks.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [ranks[i], ranks[j]] = [ranks[j]!, ranks[i]!];
  }
  const logWeight = ranks.map((rank) => -gate.skew * Math.log(rank + 1));
  return Array.from({ length: args.tokens }, () => {
    // Gumbel top-k draws without replacement in proportion to the weights.
    const keys = logWeight.map((weight) => weight - Math.log(-Math.log(random() + 1e-12)));
    return keys.map((_, expert) => expert).sort((a, b) => keys[b]! - keys[a]!)
      .slice(0, gate.choices);
  });
}

/**
 * Figures on how evenly experts and nodes are used. The report (section 2.2) names the entropy of
 * expert activation as the measure of a healthy mixture, without a formula; we read it as Shannon's
 * entropy of the share of (token, choice) pairs that each expert of a layer receives.
 */
import type { ExpertGrid } from "./expert_grid.ts";

/** Entropy of loads >= 0 in nats; 0 when there is no load. */
export function activationEntropy(loads: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < loads.length; i++) total += loads[i]!;
  if (total === 0) return 0;
  let entropy = 0;
  for (let i = 0; i < loads.length; i++) {
    const share = loads[i]! / total;
    if (share > 0) entropy -= share * Math.log(share);
  }
  return entropy;
}

export interface LayerEntropy {
  readonly layer: number;
  readonly nats: number;
  /** Relative to even use: 1 when all experts are used alike, 0 when one takes everything. */
  readonly relative: number;
}

/** Entropy of each layer of loads per slot. */
export function layerEntropies(grid: ExpertGrid, load: Float64Array): LayerEntropy[] {
  return grid.layers.map((layer) => {
    const first = grid.firstSlot(layer);
    const nats = activationEntropy(load.subarray(first, first + grid.experts));
    return { layer, nats, relative: grid.experts === 1 ? 1 : nats / Math.log(grid.experts) };
  });
}

/** Largest over mean: 1 is perfect balance. 1 without load. */
export function maxOverMean(loads: readonly number[]): number {
  const total = loads.reduce((sum, load) => sum + load, 0);
  return total === 0 ? 1 : Math.max(...loads) * loads.length / total;
}

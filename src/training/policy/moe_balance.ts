/**
 * Statistics of mixture-of-experts routing: the load-balance loss on global statistics, the z-loss,
 * and the entropy of expert use, with gradients by the gate's logits.
 */
import { assert } from "@/assert.ts";

/** Gate logits `[token][expert]` of one layer. */
export type GateLogits = readonly (readonly number[])[];

export interface RoutingCounts {
  readonly experts: number;
  readonly expertsPerToken: number;
  /** Tokens counted. */
  readonly tokens: number;
  /** Per expert: (token, slot) assignments, and summed gate probability. */
  readonly assigned: readonly number[];
  readonly probability: readonly number[];
}

export function softmax(logits: readonly number[]): number[] {
  const top = Math.max(...logits);
  const raised = logits.map((value) => Math.exp(value - top));
  const total = raised.reduce((a, b) => a + b, 0);
  return raised.map((value) => value / total);
}

/** Indexes of the `count` largest, the largest first; ties go to the lower index. */
export function topExperts(values: readonly number[], count: number): number[] {
  return values.map((_, i) => i)
    .sort((a, b) => values[b]! - values[a]! || a - b)
    .slice(0, count);
}

/** Chosen experts of a token with their probabilities, as they are and divided by their sum. */
export function routeToken(
  logits: readonly number[],
  expertsPerToken: number,
): { experts: number[]; raw: number[]; normalized: number[] } {
  const probabilities = softmax(logits);
  const experts = topExperts(probabilities, expertsPerToken);
  const raw = experts.map((expert) => probabilities[expert]!);
  const total = raw.reduce((a, b) => a + b, 0);
  return { experts, raw, normalized: raw.map((value) => value / total) };
}

/** Counts over tokens of one or more layers; `mask` 0 leaves a token out of each layer. */
export function countRouting(
  layers: readonly GateLogits[],
  { expertsPerToken, mask }: { expertsPerToken: number; mask?: readonly number[] },
): RoutingCounts {
  const experts = layers[0]![0]!.length;
  const assigned = new Array<number>(experts).fill(0);
  const probability = new Array<number>(experts).fill(0);
  let tokens = 0;
  for (const layer of layers) {
    for (const [t, logits] of layer.entries()) {
      if (mask && mask[t] === 0) continue;
      tokens++;
      const probabilities = softmax(logits);
      for (const [e, value] of probabilities.entries()) probability[e]! += value;
      for (const e of topExperts(probabilities, expertsPerToken)) assigned[e]!++;
    }
  }
  return { experts, expertsPerToken, tokens, assigned, probability };
}

/** Adds counts of ranks or micro-batches: the loss is defined on their total. */
export function addRouting(parts: readonly RoutingCounts[]): RoutingCounts {
  assert(parts.length > 0, "nothing to add");
  const total = (pick: (part: RoutingCounts) => readonly number[]) =>
    pick(parts[0]!).map((_, e) => parts.reduce((sum, part) => sum + pick(part)[e]!, 0));
  return {
    ...parts[0]!,
    tokens: parts.reduce((sum, part) => sum + part.tokens, 0),
    assigned: total((part) => part.assigned),
    probability: total((part) => part.probability),
  };
}

/**
 * experts · Σ f·P with f the assignments per token and P the mean probability. Perfect balance gives
 * `expertsPerToken`, not 1 (Hugging Face's form; divide by it for Switch's and Megatron's).
 */
export function loadBalanceLoss(counts: RoutingCounts): number {
  const { experts, tokens, assigned, probability } = counts;
  if (tokens === 0) return 0;
  let sum = 0;
  for (let e = 0; e < experts; e++) sum += assigned[e]! / tokens * probability[e]! / tokens;
  return experts * sum;
}

/**
 * Gradient of the loss by one token's logits, given the counts of everything it was computed on: no
 * gradient passes through the choice, so f is a constant.
 */
export function loadBalanceGradient(counts: RoutingCounts, logits: readonly number[]): number[] {
  const { experts, tokens, assigned } = counts;
  const probabilities = softmax(logits);
  const pull = assigned.map((count) => experts * count / tokens / tokens);
  const mean = probabilities.reduce((sum, value, e) => sum + value * pull[e]!, 0);
  return probabilities.map((value, e) => value * (pull[e]! - mean));
}

/** Mean of logsumexp², with its gradient: keeps gate logits small. */
export function zLoss(layer: GateLogits): { loss: number; gradient: number[][] } {
  let loss = 0;
  const gradient = layer.map((logits) => {
    const top = Math.max(...logits);
    const logSum = top + Math.log(logits.reduce((sum, value) => sum + Math.exp(value - top), 0));
    loss += logSum * logSum / layer.length;
    return softmax(logits).map((value) => 2 * logSum * value / layer.length);
  });
  return { loss, gradient };
}

/** Entropy of expert use, divided by that of even use: 1 is balanced, 0 one expert alone. */
export function activationEntropy(assigned: readonly number[]): number {
  const total = assigned.reduce((a, b) => a + b, 0);
  if (total === 0 || assigned.length < 2) return 1;
  let entropy = 0;
  for (const count of assigned) {
    if (count > 0) entropy -= count / total * Math.log(count / total);
  }
  return entropy / Math.log(assigned.length);
}

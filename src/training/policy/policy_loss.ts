/**
 * Policy losses as plain arithmetic on log-probabilities: PPO's clip with DAPO's two bounds and the
 * dual clip, GSPO, GMPO, CISPO, SAPO, a KL term, and how tokens are averaged. Gives the gradient by
 * each log-probability too, which the tape carries on from. Numbers are those of verl and TRL.
 */
import { assert } from "@/assert.ts";
import { klOf, klSlope } from "./kl_penalty.ts";

/** `[answer][token]`; rows may have different lengths. */
export type TokenTable = readonly (readonly number[])[];

/** How a token's ratio of new to old probability becomes a loss. */
export type Objective =
  /** max(-A ρ, -A clip(ρ, 1-low, 1+high)); for A < 0 at most -A·dual. */
  | { readonly kind: "clip"; readonly low: number; readonly high: number; readonly dual?: number }
  /** -sg(clip(ρ, 1-low, 1+high)) A log π */
  | { readonly kind: "cispo"; readonly low: number; readonly high: number }
  /** -A 4/τ σ(τ(ρ-1)) */
  | { readonly kind: "sapo"; readonly temperatureUp: number; readonly temperatureDown: number }
  /** Geometric mean of ratios per answer, clipped in log space by the advantage's sign (GMPO). */
  | { readonly kind: "geometric"; readonly low: number; readonly high: number };

type TokenObjective = Exclude<Objective, { kind: "geometric" }>;

/** What the ratio is of. */
export type RatioLevel =
  /** Each token by itself. */
  | "token"
  /** The answer's mean; each token's gradient is its own (GSPO's stop-gradient form). */
  | "sequence"
  /** The answer's mean, differentiated as it stands (TRL). */
  | "sequence_mean";

/** How tokens are averaged. */
export type Aggregation =
  | { readonly kind: "token_mean" }
  /** Sum over tokens / `count`: with the count of the whole step, over any micro-batches. */
  | { readonly kind: "token_sum"; readonly count: number }
  | { readonly kind: "sequence_mean_of_means" }
  | { readonly kind: "sequence_mean_of_sums"; readonly divisor?: number };

export interface PolicyLossOptions {
  readonly objective: Objective;
  readonly level?: RatioLevel;
  readonly aggregation: Aggregation;
  /** Bound of |log ratio| before it is exponentiated; undefined = none. */
  readonly logRatioMax?: number;
  readonly kl?: { readonly weight: number; readonly reference: TokenTable };
  /** Answers without a single counted token count as answers in means (TRL). */
  readonly countEmpty?: boolean;
}

export interface PolicyLoss {
  readonly loss: number;
  /** dLoss / d(new log-probability). */
  readonly gradient: number[][];
  /** Share of tokens whose clip was active, also from below (dual clip). */
  readonly clipFraction: number;
  readonly lowerClipFraction: number;
  /** Mean of old minus new log-probabilities. */
  readonly approximateKl: number;
}

export interface PolicyInputs {
  /** Log-probabilities of the sampled tokens when they were sampled, and now. */
  readonly old: TokenTable;
  readonly now: TokenTable;
  /** 1 for tokens that count. */
  readonly mask: TokenTable;
  readonly advantages: TokenTable;
}

/** What one token adds before averaging. */
interface TokenTerm {
  value: number;
  /** By its own new log-probability. */
  slope: number;
  /** By the mean log ratio of its answer (`sequence_mean` only). */
  meanSlope: number;
  clipped: boolean;
  clippedBelow: boolean;
}

/** DAPO as the dense models use it: bounds 0.20 and 0.28, all tokens of the step alike, no KL. */
export function dapoOptions(tokensOfStep: number): PolicyLossOptions {
  return {
    objective: { kind: "clip", low: 0.2, high: 0.28, dual: 3 },
    aggregation: { kind: "token_sum", count: tokensOfStep },
    logRatioMax: 20,
  };
}

/** GSPO as the sparse models use it: one ratio per answer, so that routing noise averages out. */
export function gspoOptions(low = 3e-4, high = 4e-4): PolicyLossOptions {
  return {
    objective: { kind: "clip", low, high },
    level: "sequence",
    aggregation: { kind: "sequence_mean_of_means" },
    logRatioMax: 20,
  };
}

export function policyLoss(inputs: PolicyInputs, options: PolicyLossOptions): PolicyLoss {
  checkShapes(inputs);
  const { objective } = options;
  if (objective.kind === "geometric") return geometricLoss(inputs, objective);
  const { now, mask } = inputs;
  const terms = now.map((_, i) => rowTerms(inputs, i, { ...options, objective }));
  const weights = tokenWeights(mask, options);
  let loss = 0;
  const gradient = now.map((row, i) => {
    const counted = sum(mask[i]!);
    let meanSlope = 0;
    const slopes = row.map((_, t) => {
      const term = terms[i]![t]!;
      loss += weights[i]![t]! * term.value;
      meanSlope += weights[i]![t]! * term.meanSlope;
      return weights[i]![t]! * term.slope;
    });
    return slopes.map((slope, t) => slope + meanSlope * mask[i]![t]! / Math.max(counted, 1));
  });
  return {
    loss,
    gradient,
    clipFraction: maskedMean(mask, (i, t) => Number(terms[i]![t]!.clipped)),
    lowerClipFraction: maskedMean(mask, (i, t) => Number(terms[i]![t]!.clippedBelow)),
    approximateKl: meanDrift(inputs),
  };
}

/** Terms of one answer's tokens. */
function rowTerms(
  { old, now, mask, advantages }: PolicyInputs,
  i: number,
  { objective, level = "token", logRatioMax = Infinity, kl }: PolicyLossOptions & {
    objective: TokenObjective;
  },
): TokenTerm[] {
  const row = now[i]!;
  const bound = (x: number) => Math.min(logRatioMax, Math.max(-logRatioMax, x));
  const own = row.map((value, t) => value - old[i]![t]!);
  const mean = own.reduce((total, value, t) => total + value * mask[i]![t]!, 0) /
    Math.max(sum(mask[i]!), 1);
  return row.map((value, t) => {
    const logRatio = bound(level === "token" ? own[t]! : mean);
    const term = objectiveTerm(objective, {
      ratio: Math.exp(logRatio),
      advantage: advantages[i]![t]!,
      now: value,
    });
    // Outside the bound the ratio is constant.
    if (level === "token" && Math.abs(own[t]!) > logRatioMax && objective.kind !== "cispo") {
      term.slope = 0;
    }
    if (level === "sequence_mean" && objective.kind !== "cispo") {
      term.meanSlope = term.slope;
      term.slope = 0;
    }
    if (kl) {
      const difference = kl.reference[i]![t]! - value;
      term.value += kl.weight * klOf("k3", -difference);
      term.slope += kl.weight * klSlope("k3", -difference);
    }
    return term;
  });
}

function objectiveTerm(
  objective: TokenObjective,
  { ratio, advantage, now }: { ratio: number; advantage: number; now: number },
): TokenTerm {
  const term = { value: 0, slope: 0, meanSlope: 0, clipped: false, clippedBelow: false };
  if (objective.kind === "sapo") {
    const tau = advantage > 0 ? objective.temperatureUp : objective.temperatureDown;
    const gate = 1 / (1 + Math.exp(-tau * (ratio - 1)));
    term.value = -advantage * gate * 4 / tau;
    term.slope = -advantage * 4 * gate * (1 - gate) * ratio;
    return term;
  }
  const bounded = Math.min(1 + objective.high, Math.max(1 - objective.low, ratio));
  if (objective.kind === "cispo") {
    term.clipped = bounded !== ratio;
    term.value = -bounded * advantage * now;
    term.slope = -bounded * advantage;
    return term;
  }
  const [free, clipped] = [-advantage * ratio, -advantage * bounded];
  term.clipped = clipped > free;
  term.value = Math.max(free, clipped);
  term.slope = term.clipped ? 0 : free;
  const cap = objective.dual === undefined ? Infinity : -advantage * objective.dual;
  if (advantage < 0 && term.value > cap) {
    term.clippedBelow = true;
    term.value = cap;
    term.slope = 0;
  }
  return term;
}

/** Weight of each token in the loss. */
function tokenWeights(mask: TokenTable, options: PolicyLossOptions): number[][] {
  const { aggregation, countEmpty = false } = options;
  const counts = mask.map(sum);
  const rows = countEmpty ? mask.length : counts.filter((count) => count > 0).length;
  return mask.map((row, i) =>
    row.map((counted) => {
      switch (aggregation.kind) {
        case "token_mean":
          return counted / Math.max(sum(counts), 1);
        case "token_sum":
          return counted / aggregation.count;
        case "sequence_mean_of_means":
          return counted / Math.max(counts[i]!, 1) / Math.max(rows, 1);
        case "sequence_mean_of_sums":
          return counted / Math.max(rows, 1) / (aggregation.divisor ?? 1);
      }
    })
  );
}

/** GMPO: the value per answer is -mean(A) times the geometric mean of its clipped ratios. */
function geometricLoss(
  inputs: PolicyInputs,
  { low, high }: { low: number; high: number },
): PolicyLoss {
  const { old, now, mask, advantages } = inputs;
  const clippedUp: boolean[][] = [];
  const clippedDown: boolean[][] = [];
  let loss = 0;
  const gradient = now.map((row, i) => {
    const counted = Math.max(sum(mask[i]!), 1e-8);
    let [logMean, advantageMean] = [0, 0];
    const up: boolean[] = clippedUp[i] = [];
    const down: boolean[] = clippedDown[i] = [];
    for (const [t, value] of row.entries()) {
      const sign = Math.sign(advantages[i]![t]!);
      const drift = value - old[i]![t]!;
      const bounded = Math.min(high, Math.max(-low, drift));
      const least = sign * Math.min(sign * drift, sign * bounded);
      logMean += least * mask[i]![t]! / counted;
      advantageMean += advantages[i]![t]! * mask[i]![t]! / counted;
      const isOutside = drift !== bounded;
      up.push(isOutside && sign > 0);
      down.push(isOutside && sign < 0);
    }
    const ratio = Math.exp(logMean);
    loss -= advantageMean * ratio / now.length;
    return row.map((value, t) => {
      const sign = Math.sign(advantages[i]![t]!);
      const drift = value - old[i]![t]!;
      const bounded = Math.min(high, Math.max(-low, drift));
      const isFree = sign !== 0 && sign * drift <= sign * bounded;
      return isFree ? -advantageMean * ratio * mask[i]![t]! / counted / now.length : 0;
    });
  });
  return {
    loss,
    gradient,
    clipFraction: maskedMean(mask, (i, t) => Number(clippedUp[i]![t]!)),
    lowerClipFraction: maskedMean(mask, (i, t) => Number(clippedDown[i]![t]!)),
    approximateKl: meanDrift(inputs),
  };
}

function meanDrift({ old, now, mask }: PolicyInputs): number {
  return maskedMean(mask, (i, t) => old[i]![t]! - now[i]![t]!);
}

function maskedMean(mask: TokenTable, value: (i: number, t: number) => number): number {
  let [total, count] = [0, 0];
  for (const [i, row] of mask.entries()) {
    for (const [t, counted] of row.entries()) {
      if (counted === 0) continue;
      total += counted * value(i, t);
      count += counted;
    }
  }
  return total / Math.max(count, 1);
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}

function checkShapes({ old, now, mask, advantages }: PolicyInputs): void {
  for (const table of [old, mask, advantages]) {
    assert(table.length === now.length, "all tables have the same answers");
    assert(table.every((row, i) => row.length === now[i]!.length), "… and the same tokens");
  }
}

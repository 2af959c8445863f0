/**
 * AdaLRS: finds the learning rate while training, from the velocity of the loss alone. A pure state
 * machine: it observes losses and says when to snapshot and when to go back; the trainer does it. The
 * factor it finds multiplies the base schedule.
 */
import { lossVelocity } from "./loss_velocity.ts";

export interface AdaptiveRateOptions {
  /** Steps of one window. */
  readonly windowSteps: number;
  /** First factors up and down, larger than 1, and how they shrink with each decision. */
  readonly up: number;
  readonly down: number;
  readonly shrink: number;
  /** Steps between which the search runs; before and after, the factor stays. */
  readonly searchFrom: number;
  readonly searchTo: number;
  readonly factorMin: number;
  readonly factorMax: number;
  /** Standard errors by which velocities must differ to count. */
  readonly errors: number;
}

export const ADAPTIVE_RATE_DEFAULTS: Omit<AdaptiveRateOptions, "searchFrom" | "searchTo"> = {
  windowSteps: 100,
  up: 3,
  down: 2,
  shrink: 0.99,
  factorMin: 0.01,
  factorMax: 100,
  errors: 2,
};

/** waiting → measuring → probing → measuring …, and finally frozen. */
export type AdaptiveRatePhase = "waiting" | "measuring" | "probing" | "frozen";

/** Everything there is to know; JSON as it is, kept in checkpoints. Not rolled back with the weights. */
export interface AdaptiveRateState {
  readonly phase: AdaptiveRatePhase;
  readonly factor: number;
  /** Losses of the current window. */
  readonly window: readonly number[];
  /** Decisions so far: the exponent of `shrink`. */
  readonly decisions: number;
  /** Velocity and error before the probe, and the factor to return to. */
  readonly before:
    | { readonly velocity: number; readonly error: number; readonly factor: number }
    | undefined;
  /** Highest loss seen before the current probe; null: none yet. */
  readonly highest: number | null;
  /** Windows in a row in which the loss rose. */
  readonly risen: number;
}

export const ADAPTIVE_RATE_START: AdaptiveRateState = {
  phase: "waiting",
  factor: 1,
  window: [],
  decisions: 0,
  before: undefined,
  highest: null,
  risen: 0,
};

/** What the trainer has to do before the next step. */
export type RateAction =
  | "none"
  /** Keep a copy of weights, optimiser and data cursor: a probe begins. */
  | "snapshot"
  /** The probe won or was undecided: the copy may go. */
  | "release"
  /** Put the copy back: the probe lost. */
  | "rollback";

/** One line of the log. */
export interface RateDecision {
  readonly step: number;
  readonly kind: "probe" | "accept" | "hold" | "reject" | "abort" | "lower" | "freeze";
  readonly from: number;
  readonly to: number;
  /** Of the window that decided; missing when a probe is broken off. */
  readonly velocity?: number;
  readonly error?: number;
  readonly velocityBefore?: number;
  readonly errorBefore?: number;
}

export interface RateObservation {
  readonly state: AdaptiveRateState;
  readonly action: RateAction;
  readonly decision?: RateDecision;
}

/** Takes the loss of one step. */
export function observeLoss(
  state: AdaptiveRateState,
  { step, loss }: { step: number; loss: number },
  options: AdaptiveRateOptions,
): RateObservation {
  if (state.phase === "frozen") return { state, action: "none" };
  if (state.phase === "waiting") {
    const highest = higher(state.highest, loss);
    if (step + 1 < options.searchFrom) return { state: { ...state, highest }, action: "none" };
    return { state: { ...state, highest, phase: "measuring", window: [] }, action: "none" };
  }
  const isProbe = state.phase === "probing";
  if (isProbe && (!Number.isFinite(loss) || loss > (state.highest ?? Infinity))) {
    return reject(state, { step, kind: "abort" }, options);
  }
  const next: AdaptiveRateState = {
    ...state,
    window: [...state.window, loss],
    // A probe must not raise the bar that it is held to.
    highest: isProbe ? state.highest : higher(state.highest, loss),
  };
  if (next.window.length < options.windowSteps) return { state: next, action: "none" };
  const { velocity, error } = lossVelocity(next.window);
  const seen = { step, velocity, error };
  return isProbe ? judgeProbe(next, seen, options) : judgeWindow(next, seen, options);
}

function higher(highest: number | null, loss: number): number {
  return highest === null ? loss : Math.max(highest, loss);
}

interface Seen {
  readonly step: number;
  readonly velocity: number;
  readonly error: number;
}

/** The factor of a move, shrunk by the decisions so far: never below 1. */
function stride(first: number, state: AdaptiveRateState, { shrink }: AdaptiveRateOptions): number {
  return Math.max(shrink ** state.decisions * first, 1);
}

function bounded(factor: number, { factorMin, factorMax }: AdaptiveRateOptions): number {
  return Math.min(factorMax, Math.max(factorMin, factor));
}

/** A window at a settled rate has ended: probe, lower, or stop searching. */
function judgeWindow(
  state: AdaptiveRateState,
  seen: Seen,
  options: AdaptiveRateOptions,
): RateObservation {
  const { step, velocity, error } = seen;
  const from = state.factor;
  if (step + 1 + options.windowSteps > options.searchTo) {
    return freeze(state, seen);
  }
  const risen = velocity < 0 ? state.risen + 1 : 0;
  if (risen >= 2) {
    const to = bounded(from / stride(options.down, state, options), options);
    return {
      state: { ...state, factor: to, window: [], decisions: state.decisions + 1, risen: 0 },
      action: "none",
      decision: { ...seen, kind: "lower", from, to },
    };
  }
  const to = bounded(from * stride(options.up, state, options), options);
  if (to === from) return { state: { ...state, window: [], risen }, action: "none" };
  return {
    state: {
      ...state,
      phase: "probing",
      factor: to,
      window: [],
      before: { velocity, error, factor: from },
      risen,
    },
    action: "snapshot",
    decision: { ...seen, kind: "probe", from, to },
  };
}

function judgeProbe(
  state: AdaptiveRateState,
  seen: Seen,
  options: AdaptiveRateOptions,
): RateObservation {
  const before = state.before!;
  const margin = options.errors * Math.max(before.error, seen.error);
  if (seen.velocity < before.velocity - margin) {
    return reject(state, { ...seen, kind: "reject" }, options);
  }
  const isBetter = seen.velocity > before.velocity + margin;
  const to = isBetter ? state.factor : before.factor;
  const measuring = measuringAt(state, to);
  return {
    state: measuring,
    action: "release",
    decision: {
      ...seen,
      kind: isBetter ? "accept" : "hold",
      from: state.factor,
      to,
      velocityBefore: before.velocity,
      errorBefore: before.error,
    },
  };
}

function measuringAt(state: AdaptiveRateState, factor: number): AdaptiveRateState {
  return {
    ...state,
    phase: "measuring",
    factor,
    window: [],
    before: undefined,
    decisions: state.decisions + 1,
  };
}

/** Back to the snapshot, at a rate below the one before the probe. */
function reject(
  state: AdaptiveRateState,
  seen: Partial<Seen> & { readonly step: number; readonly kind: "reject" | "abort" },
  options: AdaptiveRateOptions,
): RateObservation {
  const before = state.before!;
  const to = bounded(before.factor / stride(options.down, state, options), options);
  return {
    state: measuringAt(state, to),
    action: "rollback",
    decision: {
      ...seen,
      from: state.factor,
      to,
      velocityBefore: before.velocity,
      errorBefore: before.error,
    },
  };
}

function freeze(state: AdaptiveRateState, seen: Seen): RateObservation {
  return {
    state: { ...state, phase: "frozen", window: [] },
    action: "none",
    decision: { ...seen, kind: "freeze", from: state.factor, to: state.factor },
  };
}

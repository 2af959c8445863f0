/**
 * Decides which drafts go into a step: tokens that may come next, computed along with the last known
 * one and kept where the draw of their position gives the same. Drafts therefore change how many
 * steps an answer takes, never a token of it. Where drafts come from is prompt_lookup.ts and
 * draft_model.ts; rows and pages are the planner's.
 */
import { assert } from "@/assert.ts";
import { isAllowed } from "@/sampling/token_mask.ts";
import type { EngineBounds } from "./bounds.ts";
import { AcceptanceRate, worthwhileDrafts } from "./draft_gain.ts";
import { PromptLookup } from "./prompt_lookup.ts";
import type { Sequence } from "./sequence.ts";
import type { StepAllowance } from "./step_pacer.ts";

/**
 * `lookup` and `draft` take all drafts of one source that fit; `auto` takes those of any source
 * that have paid so far.
 */
export type SpeculationMode = "off" | "lookup" | "draft" | "auto";

/** What drafts are told apart by: copies by the length of their match, and a model's drafts. */
type DraftKind = "short" | "medium" | "long" | "model";

/** First guesses of how often drafts come true. */
const FIRST_RATES: Readonly<Record<DraftKind, number>> = {
  short: 0.3,
  medium: 0.5,
  long: 0.7,
  model: 0.6,
};
/** Fading of what is known of one sequence, and of all of them. */
const [SEQUENCE_FADING, ENGINE_FADING] = [0.9, 0.99];
/** Gain that switches speculation on, and the smaller one that keeps it on. */
const [MARGIN_TO_START, MARGIN_TO_STAY] = [0.1, 0.02];
/** Declined offers until drafts are tried anyway, at first and at most: things may have changed. */
const [PROBE_AFTER_MIN, PROBE_AFTER_MAX] = [16, 512];
/** Drafts of such a trial. */
const PROBE_DRAFTS = 3;
/** Tokens that a draft model guesses where nothing is measured. */
const MODEL_DRAFTS = 5;
/** Part of a full step's rows that drafts may take from prompts. */
const DRAFT_SHARE = 1 / 4;
/** A copy with a match this long is taken before a model's draft. */
const TRUSTED_MATCH = 4;

/** Switches itself on and off with some inertia, and tries again now and then. */
class Switch {
  #isOn = false;
  #declined = 0;
  #probeAfter = PROBE_AFTER_MIN;

  /** Gain that an offer must bring. */
  get margin(): number {
    return this.#isOn ? MARGIN_TO_STAY : MARGIN_TO_START;
  }

  /** Takes how many drafts pay; returns how many to make. */
  decide(count: number): number {
    this.#isOn = count > 0;
    if (count > 0) {
      this.#declined = 0;
      this.#probeAfter = PROBE_AFTER_MIN;
      return count;
    }
    this.#declined += 1;
    if (this.#declined < this.#probeAfter) return 0;
    this.#declined = 0;
    this.#probeAfter = Math.min(PROBE_AFTER_MAX, 2 * this.#probeAfter);
    return PROBE_DRAFTS;
  }
}

interface Offer {
  readonly sequence: Sequence;
  readonly ids: readonly number[];
  readonly kind: DraftKind;
}

/** What speculation remembers of a sequence. */
interface Memory {
  readonly lookup: PromptLookup;
  readonly rates: Readonly<Record<DraftKind, AcceptanceRate>>;
  /** Kind of the drafts in flight. */
  kind: DraftKind;
}

export interface SpeculationCounts {
  readonly draftsAccepted: number;
  readonly draftsRejected: number;
}

/** A request for a draft model's guesses. */
export interface DraftWant {
  readonly sequence: Sequence;
  readonly count: number;
}

/** A draft's source that runs outside the scheduler, see draft_model.ts. */
export type ModelDrafts = ReadonlyMap<number, readonly number[]>;

export class Speculation {
  readonly #mode: SpeculationMode;
  readonly #bounds: EngineBounds;
  readonly #contextTokens: number;
  readonly #endTokenIds: ReadonlySet<number>;
  readonly #allowed: Int32Array | undefined;
  readonly #memories = new WeakMap<Sequence, Memory>();
  readonly #rates: Readonly<Record<DraftKind, AcceptanceRate>>;
  readonly #rowSwitch = new Switch();
  readonly #modelSwitch = new Switch();
  #accepted = 0;
  #rejected = 0;

  /** `allowed` is the mask of ids that may be drawn; no other is drafted. */
  constructor(args: {
    mode: SpeculationMode;
    bounds: EngineBounds;
    contextTokens: number;
    endTokenIds: ReadonlySet<number>;
    allowed?: Int32Array | undefined;
  }) {
    this.#mode = args.mode;
    this.#bounds = args.bounds;
    this.#contextTokens = args.contextTokens;
    this.#endTokenIds = args.endTokenIds;
    this.#allowed = args.allowed;
    this.#rates = newRates((kind) => ({ rate: FIRST_RATES[kind] }), ENGINE_FADING);
  }

  get counts(): SpeculationCounts {
    return { draftsAccepted: this.#accepted, draftsRejected: this.#rejected };
  }

  /** Most drafts that can follow a sequence's last known token: 0 unless it only lacks that one. */
  room(sequence: Sequence): number {
    const { state, wanted } = sequence;
    const { params, speculates } = state.request;
    if (this.#mode === "off" || speculates === false || state.paused) return 0;
    if (wanted - sequence.computed !== 1) return 0;
    const tokensLeft = Math.min(
      params.maxTokens - sequence.generated.length,
      this.#contextTokens - wanted,
    );
    return Math.max(0, Math.min(this.#bounds.draftTokens, tokensLeft - 1));
  }

  /**
   * What a draft model should guess before the next step. `roundMs` is what one token for all of
   * them takes.
   */
  wants(
    running: readonly Sequence[],
    step: { allowance: StepAllowance; roundMs: number | undefined },
  ): DraftWant[] {
    if (this.#mode !== "draft" && this.#mode !== "auto") return [];
    const wants = running.map((sequence) => ({ sequence, count: this.room(sequence) }))
      .filter(({ sequence, count }) => count > 0 && !this.#copiesWell(sequence, count));
    if (wants.length === 0) return [];
    const count = this.#mode === "draft"
      ? MODEL_DRAFTS
      : this.#worthwhileRounds(running, { wants, ...step });
    return wants.map((want) => ({ ...want, count: Math.min(count, want.count) }))
      .filter((want) => want.count > 0);
  }

  /** Drafts by sequence id, for the next step over `running`. */
  propose(
    running: readonly Sequence[],
    step: { allowance: StepAllowance; modelDrafts: ModelDrafts },
  ): ReadonlyMap<number, readonly number[]> {
    const offers = running.map((sequence) => this.#offer(sequence, step.modelDrafts))
      .filter((offer) => offer !== undefined);
    if (offers.length === 0) return new Map();
    const ranked = offers.flatMap((offer) => {
      const { rate } = this.#memory(offer.sequence).rates[offer.kind];
      return offer.ids.map((_, index) => ({ offer, chance: rate ** (index + 1) }));
    }).sort((a, b) => b.chance - a.chance);
    const affordable = ranked.slice(0, this.#budget(running, step.allowance));
    const chances = affordable.map(({ chance }) => chance);
    const count = this.#mode === "auto"
      ? this.#worthwhile(running, { chances, allowance: step.allowance })
      : affordable.length;
    const counts = new Map<Offer, number>();
    // A sequence's chances fall from draft to draft, so what is taken is a beginning of each offer.
    for (const { offer } of affordable.slice(0, count)) {
      counts.set(offer, (counts.get(offer) ?? 0) + 1);
    }
    return new Map(Array.from(counts, ([{ sequence, ids, kind }, taken]) => {
      this.#memory(sequence).kind = kind;
      return [sequence.id, ids.slice(0, taken)];
    }));
  }

  /** Takes the outcome of a sequence's drafts. */
  observe(sequence: Sequence, outcome: { drafted: number; accepted: number }): void {
    const { drafted, accepted } = outcome;
    assert(drafted > 0 && accepted <= drafted, `${accepted} of ${drafted} drafts accepted`);
    const { rates, kind } = this.#memory(sequence);
    rates[kind].observe(drafted, accepted);
    this.#rates[kind].observe(drafted, accepted);
    this.#accepted += accepted;
    this.#rejected += drafted - accepted;
  }

  #offer(sequence: Sequence, modelDrafts: ModelDrafts): Offer | undefined {
    const room = this.room(sequence);
    if (room === 0) return undefined;
    const drafted = modelDrafts.get(sequence.id) ?? [];
    const copy = this.#mode === "draft" ? undefined : this.#copy(sequence, room);
    if (copy && (drafted.length === 0 || copy.matched >= TRUSTED_MATCH)) {
      const ids = this.#usable(sequence, copy.ids);
      const kind = copy.matched >= 6 ? "long" : copy.matched >= 3 ? "medium" : "short";
      if (ids.length > 0) return { sequence, ids, kind };
    }
    const ids = this.#usable(sequence, drafted.slice(0, room));
    return ids.length > 0 ? { sequence, ids, kind: "model" } : undefined;
  }

  #copy(sequence: Sequence, room: number) {
    const { lookup } = this.#memory(sequence);
    lookup.push(sequence.tokenIds(lookup.length, sequence.wanted));
    return lookup.propose(room);
  }

  /** What can be drawn at all; nothing follows an end token. */
  #usable(sequence: Sequence, ids: readonly number[]): readonly number[] {
    const { params } = sequence.state.request;
    for (const [index, id] of ids.entries()) {
      if (this.#allowed && !isAllowed(this.#allowed, id)) return ids.slice(0, index);
      const ends = this.#endTokenIds.has(id) && !params.ignoreEos;
      if (ends || params.stopTokenIds.includes(id)) return ids.slice(0, index + 1);
    }
    return ids;
  }

  /** Rows that drafts may take: what others leave over, or a share of what prompts would get. */
  #budget(running: readonly Sequence[], { rows }: StepAllowance): number {
    const { stepLogits, stepScores } = this.#bounds;
    const runnable = running.filter(({ state }) => !state.paused);
    const others = Math.min(rows, ordinaryRows(runnable));
    const share = Math.floor((rows - runnable.length) * DRAFT_SHARE);
    const scores = runnable.some(({ state }) => state.firstUnscoredRow < Infinity) ? stepScores : 0;
    return Math.max(
      0,
      Math.min(
        Math.max(rows - others, share),
        stepLogits - runnable.length - scores,
      ),
    );
  }

  #worthwhile(
    running: readonly Sequence[],
    step: { chances: readonly number[]; allowance: StepAllowance },
  ): number {
    const { chances, allowance: { cost } } = step;
    const runnable = running.filter(({ state }) => !state.paused);
    const rows = ordinaryRows(runnable);
    // Beside prompts a row is never cheap: such steps are bound by arithmetic.
    if (cost === undefined || rows > runnable.length) return 0;
    const { margin } = this.#rowSwitch;
    const count = worthwhileDrafts({ rows, chances, cost, margin });
    return Math.min(chances.length, this.#rowSwitch.decide(count));
  }

  /** Tokens that a draft model should guess for each of `wants`. */
  #worthwhileRounds(running: readonly Sequence[], step: {
    wants: readonly DraftWant[];
    allowance: StepAllowance;
    roundMs: number | undefined;
  }): number {
    const { wants, allowance: { cost }, roundMs } = step;
    const runnable = running.filter(({ state }) => !state.paused);
    const rows = ordinaryRows(runnable);
    const plainMs = cost?.ms(rows);
    if (cost === undefined || plainMs === undefined || rows > runnable.length) return 0;
    if (roundMs === undefined) return PROBE_DRAFTS;
    const rates = wants.map(({ sequence }) => this.#memory(sequence).rates.model.rate);
    let [best, bestRate] = [0, (1 + this.#modelSwitch.margin) * rows / plainMs];
    let progress = rows;
    for (let count = 1; count <= this.#bounds.draftTokens; count++) {
      progress += rates.reduce((sum, rate) => sum + rate ** count, 0);
      const ms = (cost.ms(rows + count * wants.length) ?? Infinity) + count * roundMs;
      if (progress / ms > bestRate) [best, bestRate] = [count, progress / ms];
    }
    return this.#modelSwitch.decide(best);
  }

  #copiesWell(sequence: Sequence, room: number): boolean {
    if (this.#mode === "draft") return false;
    return (this.#copy(sequence, room)?.matched ?? 0) >= TRUSTED_MATCH;
  }

  #memory(sequence: Sequence): Memory {
    let memory = this.#memories.get(sequence);
    if (memory === undefined) {
      memory = {
        lookup: new PromptLookup(sequence.wanted),
        rates: newRates((kind) => this.#rates[kind], SEQUENCE_FADING),
        kind: "short",
      };
      this.#memories.set(sequence, memory);
    }
    return memory;
  }
}

function newRates(
  prior: (kind: DraftKind) => { readonly rate: number },
  fading: number,
): Readonly<Record<DraftKind, AcceptanceRate>> {
  const rateOf = (kind: DraftKind) => new AcceptanceRate(prior(kind), fading);
  return {
    short: rateOf("short"),
    medium: rateOf("medium"),
    long: rateOf("long"),
    model: rateOf("model"),
  };
}

/** Rows that the sequences want without drafts. */
function ordinaryRows(runnable: readonly Sequence[]): number {
  return runnable.reduce((rows, sequence) => rows + sequence.wanted - sequence.computed, 0);
}

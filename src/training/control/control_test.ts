import assert from "node:assert/strict";
import { Dice } from "@/data/dice.ts";
import { defaultSettings } from "@/data/makers/maker_registry.ts";
import {
  ADAPTIVE_RATE_DEFAULTS,
  ADAPTIVE_RATE_START,
  type AdaptiveRateOptions,
  type AdaptiveRateState,
  observeLoss,
  type RateDecision,
} from "./adaptive_rate.ts";
import { CURRICULUM_START, observeAnswers, READING_LEVELS, settingsAt } from "./curriculum.ts";
import { lossVelocity } from "./loss_velocity.ts";
import { rateFactor, scheduleProblem } from "./rate_schedule.ts";

Deno.test("rateFactor() of the cosine equals the library's schedule", () => {
  const url = new URL("../../../tests/fixtures/data/rl_moe_optim.json", import.meta.url);
  const { cases } = JSON.parse(Deno.readTextFileSync(url)) as {
    cases: {
      fn: string;
      input: { kind: "cosine"; warmup: number; total: number };
      expected: number[];
    }[];
  };
  const own = cases.filter(({ fn }) => fn === "lr_schedule");
  assert.ok(own.length > 0);
  for (const { input: { kind, warmup: warmupSteps, total: totalSteps }, expected } of own) {
    for (const [step, value] of expected.entries()) {
      const got = rateFactor({ kind, warmupSteps, totalSteps }, step);
      assert.ok(Math.abs(got - value) < 1e-12, `step ${step}: ${got}, expected ${value}`);
    }
  }
});

Deno.test("rateFactor() of WSD warms up, stays, falls to its end", () => {
  const wsd = { kind: "wsd", warmupSteps: 4, totalSteps: 20, decaySteps: 8 } as const;
  assert.deepEqual([0, 2, 4, 12, 16, 20, 30].map((step) => rateFactor(wsd, step)), [
    0,
    0.5,
    1,
    1,
    0.5,
    0,
    0,
  ]);
  assert.equal(rateFactor({ ...wsd, decayShape: "sqrt", endFactor: 0.2 }, 14), 0.6);
  assert.equal(scheduleProblem(wsd), undefined);
  assert.match(scheduleProblem({ ...wsd, totalSteps: 10 })!, /4 warm-up and 8 decay steps do not/);
});

Deno.test("lossVelocity() finds a line's slope, and an error that shrinks with the window", () => {
  const exact = lossVelocity([9, 7, 5, 3]);
  assert.deepEqual(exact, { velocity: 2, error: 0, mean: 6 });
  const dice = new Dice(4);
  const noisy = (count: number) =>
    lossVelocity(Array.from({ length: count }, (_, i) => 5 - 0.01 * i + 0.1 * dice.normal()));
  const [short, long] = [noisy(20), noisy(200)];
  assert.ok(Math.abs(long.velocity - 0.01) < 3 * long.error && long.error < short.error / 10);
});

/** Noisy gradient descent on a bowl of uneven curvature; a snapshot is a copy of the point. */
class Bowl {
  point: number[];
  readonly #dice: Dice;
  readonly #curvatures = Array.from({ length: 24 }, (_, i) => 0.02 * 1.22 ** i);

  constructor(seed: number) {
    this.#dice = new Dice(seed);
    this.point = this.#curvatures.map(() => 3);
  }

  /** One step; the loss is measured before it, with noise. */
  step(rate: number): number {
    let loss = 0;
    this.point = this.point.map((x, i) => {
      const curvature = this.#curvatures[i]!;
      loss += curvature * x * x / 2;
      return x - rate * curvature * (x + 0.2 * this.#dice.normal());
    });
    return loss + 0.05 * this.#dice.normal();
  }
}

const STEPS = 2000;

/** Trains with the controller; gives its last rate, its decisions and the end's loss. */
function search(start: number, seed: number) {
  const options: AdaptiveRateOptions = {
    ...ADAPTIVE_RATE_DEFAULTS,
    windowSteps: 25,
    searchFrom: 10,
    searchTo: 1000,
  };
  const bowl = new Bowl(seed);
  let state: AdaptiveRateState = ADAPTIVE_RATE_START;
  let copy: number[] = [];
  const decisions: RateDecision[] = [];
  let last = 0;
  for (let step = 0; step < STEPS; step++) {
    last = bowl.step(start * state.factor);
    const seen = observeLoss(state, { step, loss: last }, options);
    // Checkpoints hold the state as JSON.
    state = JSON.parse(JSON.stringify(seen.state));
    if (seen.action === "snapshot") copy = [...bowl.point];
    if (seen.action === "rollback") bowl.point = copy;
    if (seen.decision) decisions.push(seen.decision);
  }
  return { rate: start * state.factor, decisions, last, phase: state.phase };
}

Deno.test("AdaLRS climbs from a rate far too small and ends lower than that rate would", () => {
  const fixed = (rate: number) => {
    const bowl = new Bowl(1);
    let loss = 0;
    for (let step = 0; step < STEPS; step++) loss = bowl.step(rate);
    return loss;
  };
  const small = search(0.01, 1);
  assert.equal(small.phase, "frozen");
  assert.ok(small.rate >= 0.04, `found ${small.rate}`);
  assert.ok(small.last < fixed(0.01), `${small.last} against ${fixed(0.01)}`);
  assert.ok(small.decisions.some(({ kind }) => kind === "accept"));
});

Deno.test("AdaLRS brings starts that differ 300-fold within a factor of six of each other", () => {
  const found = [0.003, 0.01, 0.03, 0.1, 0.3, 0.9].map((start) => search(start, 1));
  const rates = found.map(({ rate }) => rate);
  assert.ok(Math.max(...rates) / Math.min(...rates) < 6, rates.join());
  for (const { last } of found) assert.ok(last < 0.2, `${last}`);
});

Deno.test("AdaLRS comes down from a rate that is too large and rolls back what diverges", () => {
  // The bowl's largest curvature is about 1.9: rates above 1.03 diverge.
  const large = search(0.9, 2);
  assert.ok(Number.isFinite(large.last) && large.rate < 1.03, `found ${large.rate}`);
  const undone = large.decisions.filter(({ kind }) => kind === "abort" || kind === "reject");
  assert.ok(undone.length > 0);
  for (const { from, to } of undone) assert.ok(to < from);
});

Deno.test("observeLoss() follows the report's rule case by case", () => {
  const options: AdaptiveRateOptions = {
    ...ADAPTIVE_RATE_DEFAULTS,
    windowSteps: 4,
    searchFrom: 1,
    searchTo: 1000,
  };
  let state: AdaptiveRateState = ADAPTIVE_RATE_START;
  let step = 0;
  const feed = (...losses: number[]) => {
    let last;
    for (const loss of losses) {
      const seen = observeLoss(state, { step: step++, loss }, options);
      state = seen.state;
      last = seen;
    }
    return last!;
  };
  feed(10);
  const probe = feed(10, 9.9, 9.8, 9.7);
  assert.deepEqual([probe.action, probe.decision!.kind, state.factor], ["snapshot", "probe", 3]);
  const accept = feed(9.6, 9.3, 9.0, 8.7);
  assert.deepEqual([accept.action, accept.decision!.kind, state.factor], ["release", "accept", 3]);
  const again = feed(8.4, 8.1, 7.8, 7.5);
  assert.equal(again.action, "snapshot");
  const second = state.factor / 3;
  assert.ok(Math.abs(second - 3 * 0.99) < 1e-12, "strides shrink");
  const reject = feed(7.5, 7.5, 7.5, 7.5);
  assert.deepEqual([reject.action, reject.decision!.kind], ["rollback", "reject"]);
  assert.ok(Math.abs(state.factor - 3 / (2 * 0.99)) < 1e-12, `${state.factor}`);
  feed(7.4, 7.3, 7.2, 7.1);
  const abort = feed(11);
  assert.deepEqual([abort.action, abort.decision!.kind], ["rollback", "abort"]);
  assert.equal(feed(7, 7.1, 7.2, 7.3).action, "snapshot", "one window that rises is no trend");
});

Deno.test("the curriculum moves on by accuracy alone", () => {
  const options = { levels: 3, threshold: 0.8, window: 10 };
  const right = (count: number) => Array.from({ length: 10 }, (_, i) => i < count);
  let state = observeAnswers(CURRICULUM_START, right(7), options);
  assert.equal(state.level, 0);
  state = observeAnswers(state, right(8), options);
  assert.deepEqual(state, { level: 1, recent: [] });
  state = observeAnswers(observeAnswers(state, right(9), options), right(10), options);
  assert.equal(state.level, 2, "the last level stays");
});

Deno.test("settingsAt() starts with one clean letter in eight faces and ends at full difficulty", () => {
  const full = defaultSettings(64);
  const first = settingsAt(full, 0);
  assert.deepEqual([first.lengthMax, first.spread, first.faces.length], [1, 0, 8]);
  assert.deepEqual(settingsAt(full, READING_LEVELS.length + 5), full);
});

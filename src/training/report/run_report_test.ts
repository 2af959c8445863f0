import assert from "node:assert/strict";
import { type CueKind, cueNames, cueRecord } from "../cues.ts";
import { supervisedRecipe } from "../recipes/recipe.ts";
import type { StepRecord } from "../run_log.ts";
import { binsOf, numberText, panelSvg, ticksOf } from "./panel_svg.ts";
import { panelsOf } from "./panels.ts";
import { RunReport } from "./run_report.ts";

const recipe = supervisedRecipe({
  name: "trial",
  purpose: "Shows <everything> & more",
  trainable: ["adapter"],
  data: { mixture: { word: 1 } },
  optimizer: { peakRate: 1e-3 },
  steps: 40,
});

const record = (computed: number, more: Partial<StepRecord> = {}): StepRecord => ({
  step: computed,
  computed,
  loss: 5 / computed,
  rate: 1e-3,
  gradientNorm: 1,
  entropy: 0.5,
  rows: 100,
  scoredTokens: 10,
  seconds: 0.5,
  rowsPerSecond: 200,
  secondsLeft: 60,
  ...more,
});

Deno.test("panelsOf() shows what a log has and nothing else", () => {
  const plain = panelsOf([record(1), record(2)]).map(({ title }) => title);
  assert.deepEqual(plain, ["Loss", "Rate", "Gradient norm", "Entropy", "Speed"]);
  const rich = panelsOf([
    record(1, { reward: 0.2, rewardParts: { format: 1 }, clipFraction: 0.1, answerTokens: 30 }),
    record(2, { balance: 2.1, level: 1, accuracy: 0.5 }),
  ]).map(({ title }) => title);
  for (
    const title of [
      "Reward",
      "Parts of the reward",
      "Clipped tokens",
      "Answer length",
      "Expert balance",
      "Curriculum",
      "Accuracy",
    ]
  ) assert.ok(rich.includes(title), title);
  // JSON writes what is not finite as null.
  const broken = panelsOf([record(1, { loss: null as unknown as number }), record(2)]);
  assert.deepEqual(broken[0]!.curves[0]!.points, [[2, 2.5]]);
});

Deno.test("panelsOf() shows every kind of cue once for each place where it is asked", () => {
  const losses = cueRecord((_, index) => index);
  const logged = record(1, { cueLosses: { tokens: losses } });
  const panels = panelsOf([JSON.parse(JSON.stringify(logged)) as StepRecord])
    .filter(({ title }) => title.startsWith("Cues"));
  const shown = panels.flatMap(({ curves }) => curves.map(({ name }) => name));
  assert.deepEqual(shown.toSorted(), cueNames.toSorted());
  for (const { name, points } of panels.flatMap(({ curves }) => curves)) {
    assert.deepEqual(points, [[1, cueNames.indexOf(name as CueKind)]]);
  }
  assert.ok(panels.every(({ note }) => note.includes("tokens")));
});

Deno.test("binsOf() keeps every point's extremes, whatever the length", () => {
  for (const length of [1, 2, 149, 150, 151, 1000]) {
    const points = Array.from({ length }, (_, i) => [i + 1, i === length >> 1 ? 9 : 1] as const);
    const bins = binsOf({ name: "x", points });
    assert.ok(bins.length <= 150 && bins.length === Math.min(150, length), `${bins.length}`);
    assert.equal(Math.max(...bins.map(({ high }) => high)), 9);
    assert.equal(bins.at(-1)!.x, length);
  }
});

Deno.test("ticksOf() gives round numbers inside its range", () => {
  assert.deepEqual(ticksOf(0, 1).map(numberText), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
  assert.deepEqual(ticksOf(0, 40), [0, 10, 20, 30, 40]);
  assert.deepEqual(ticksOf(3, 3), [3]);
  assert.deepEqual([0, 0.00012, 0.5, 12345, 2e7].map(numberText), [
    "0",
    "1.2e-4",
    "0.5",
    "12.3k",
    "20M",
  ]);
});

Deno.test("panelSvg() has numbers only, also for constants, zeros and single points", () => {
  const logs = [
    [record(1)],
    [record(1, { rate: 0 }), record(2)],
    [record(1, { loss: 0 }), record(2, { loss: 0 })],
  ];
  for (const log of logs) {
    for (const panel of panelsOf(log)) {
      assert.doesNotMatch(panelSvg(panel), /NaN|Infinity|undefined/);
    }
  }
});

Deno.test("a report is one file that loads nothing and shows text as text", () => {
  const decision = {
    step: 2,
    kind: "reject",
    from: 3,
    to: 0.5,
    velocity: 0.01,
    error: 0.002,
  } as const;
  const completion = { task: "word", question: "a <b>?", answer: '<script>"', expected: "x" };
  const report = new RunReport({ recipe, model: "nano", records: [record(1)] });
  report.add(record(2, { decision, completions: [{ ...completion, right: false }] }));
  report.add(record(3, { accuracy: 0.5, accuracyByTask: { word: [3, 6] } }));
  const html = report.html();
  assert.doesNotMatch(html, /<script|https?:|src=|url\(|@import/);
  for (
    const text of [
      "Shows &lt;everything&gt; &amp; more",
      "a &lt;b&gt;?",
      "&lt;script&gt;&quot;",
      "reject: factor 3.00 to 0.500",
      "3 of 6",
      "3 of 40",
    ]
  ) assert.ok(html.includes(text), text);
  assert.match(report.html("live.js"), /<script defer src="live.js">/);
});

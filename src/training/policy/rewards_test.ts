import assert from "node:assert/strict";
import fc from "fast-check";
import { passAtK } from "./difficulty.ts";
import { judgeDifficulty } from "./difficulty.ts";
import {
  accuracyReward,
  checkRewardWeights,
  formatReward,
  geometryReward,
  mixedReward,
  thinkTagReward,
  verifiedReward,
} from "./rewards.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

function cases(file: string, fn: string): { input: Any; expected: Any; id: string }[] {
  const url = new URL(`../../../tests/fixtures/data/${file}.json`, import.meta.url);
  const found = JSON.parse(Deno.readTextFileSync(url)).cases.filter((item: Any) => item.fn === fn);
  assert.ok(found.length > 0, fn);
  return found;
}

Deno.test("geometryReward() equals verl's recipe, hackable as it is", () => {
  for (const { input, expected, id } of cases("math_rewards", "geo3k_reward")) {
    const { format, accuracy, score } = geometryReward(input.prediction, input.gold);
    assert.deepEqual({ format, acc: accuracy }, { format: expected.format, acc: expected.acc }, id);
    assert.ok(Math.abs(score - expected.score) < 1e-9, id);
  }
});

Deno.test("thinkTagReward() equals TRL", () => {
  for (const { input, expected, id } of cases("rl_moe_optim", "trl_think_format")) {
    assert.equal(thinkTagReward(input.completion), expected, `${id} ${input.completion}`);
  }
});

Deno.test("accuracyReward() with a box equals TRL where TRL can tell, and letters too", () => {
  for (const { input, expected, id } of cases("rl_moe_optim", "trl_accuracy_reward")) {
    const options = { truth: input.solution, kind: "number", needsBox: true } as const;
    // TRL gives null for option letters, so that multiple choice trains on nothing.
    assert.equal(accuracyReward(input.completion, options), expected ?? 1, id);
  }
});

Deno.test("verifiedReward() pays nothing for known tricks", () => {
  const reward = (reply: string) =>
    verifiedReward(reply, { truth: "5", kind: "number", formatWeight: 0.1 });
  assert.equal(reward("<think>2+3</think>\\boxed{5}"), 1);
  assert.equal(reward("<think>2+3</think>\\boxed{6}"), 0.1);
  assert.equal(reward("\\boxed{5}"), 0.9);
  for (
    const trick of [
      "<think>\\boxed{5}</think>",
      "<think>x \\boxed{5}</think> I do not know",
      "<think>a</think>\\boxed{}",
      "<think>a</think> 5",
      "<think>a</think>\\boxed{5",
    ]
  ) assert.equal(reward(trick), 0, trick);
  assert.equal(formatReward("<think>a</think><think>b</think>\\boxed{5}"), 0);
  assert.equal(formatReward("<think></think>\\boxed{5}"), 0);
  assert.equal(formatReward("<think>a</think>\\boxed{1}\\boxed{5}"), 0);
});

Deno.test("accuracyReward() compares words loosely and numbers by value", () => {
  const word = (reply: string) => accuracyReward(reply, { truth: "Cat", kind: "word" });
  assert.deepEqual(["cat", " cat. ", "dog", ""].map(word), [1, 1, 0, 0]);
  const number = (reply: string) => accuracyReward(reply, { truth: "1000", kind: "number" });
  assert.deepEqual(["1,000", "\\boxed{10^3}", "100"].map(number), [1, 1, 0]);
  assert.equal(accuracyReward("x", { truth: "", kind: "text" }), null);
});

Deno.test("mixedReward() is null when a judge failed, never 0, and wants weights of sum 1", () => {
  const part = (name: string, weight: number, value: number | null) => ({ name, weight, value });
  assert.equal(mixedReward([part("a", 0.5, 1), part("t", 0.3, null), part("f", 0.2, 1)]), null);
  assert.equal(mixedReward([part("a", 0.5, 1), part("t", 0, null), part("f", 0.5, 0)]), 0.5);
  assert.throws(() => checkRewardWeights({ a: 0.5, b: 0.4 }), /sum to 1, they are a 0.5, b 0.4/);
  assert.throws(() => checkRewardWeights({ a: 1.5, b: -0.5 }), /from 0 to 1/);
});

Deno.test("passAtK() is the chance that a draw of k tries holds a success", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 9 }), fc.nat(9), fc.nat(8), (n, c, extra) => {
    const [tries, correct, k] = [n, Math.min(c, n), Math.min(n, extra + 1)];
    // All subsets of k tries, those below `correct` being the successes.
    let [hits, total] = [0, 0];
    for (let set = 0; set < 2 ** tries; set++) {
      const chosen = Array.from({ length: tries }, (_, i) => i).filter((i) => set >> i & 1);
      if (chosen.length !== k) continue;
      total++;
      if (chosen.some((i) => i < correct)) hits++;
    }
    assert.ok(Math.abs(passAtK({ tries, correct, k }) - hits / total) < 1e-12);
  }));
});

Deno.test("judgeDifficulty() drops the always right, and the never right where thought is needed", () => {
  const judge = (correct: number, kind: "reasoning" | "perception") =>
    judgeDifficulty({ tries: 4, correct }, kind);
  assert.deepEqual([0, 1, 3, 4].map((c) => judge(c, "reasoning")), [
    "too_hard",
    "keep",
    "keep",
    "too_easy",
  ]);
  assert.deepEqual([0, 4].map((c) => judge(c, "perception")), ["keep", "too_easy"]);
});

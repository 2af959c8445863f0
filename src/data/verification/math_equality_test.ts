import assert from "node:assert/strict";
import fc from "fast-check";
import { boxedAnswers, findAnswer, lastBoxText } from "./boxed_answer.ts";
import { isSameAnswer, verifyReply } from "./math_equality.ts";

function fixture<T>(name: string): T[] {
  const file = new URL(`../../../tests/fixtures/data/${name}.json`, import.meta.url);
  return JSON.parse(Deno.readTextFileSync(file)).cases;
}

interface RewardCase {
  readonly fn: string;
  readonly input: { prediction: string; gold: string; s: string };
  readonly expected: { correct: boolean } & string;
}

/** Where we differ from math-verify on purpose, with what we say. */
const differences: Readonly<Record<string, boolean>> = {
  // Words are words, not products of letters.
  "\\boxed{ab} ba": false,
  "\\boxed{True} true": true,
};

Deno.test("verifyReply() equals math-verify, but for the differences listed", () => {
  const recorded = fixture<RewardCase>("math_rewards")
    .filter(({ fn }) => fn === "math_verify")
    .map(({ input, expected }) => ({ ...input, correct: expected.correct }));
  const more = fixture<{ prediction: string; gold: string; correct: boolean }>("math_verdicts");
  assert.ok(recorded.length >= 29 && more.length >= 120);
  const found: Record<string, boolean> = {};
  for (const { prediction, gold, correct } of [...recorded, ...more]) {
    const got = verifyReply(gold, prediction, "all");
    if (got !== correct) found[`${prediction} ${gold}`] = got;
  }
  assert.deepEqual(found, differences);
});

Deno.test("lastBoxText() equals the original", () => {
  const cases = fixture<RewardCase>("math_rewards")
    .filter(({ fn }) => fn === "last_boxed_only_string");
  assert.ok(cases.length > 0);
  for (const { input, expected } of cases) assert.equal(lastBoxText(input.s) ?? null, expected);
});

Deno.test("verifyReply() takes the last box, so that listing guesses does not pay", () => {
  assert.ok(verifyReply("2", "\\boxed{1} or \\boxed{2}"));
  assert.ok(!verifyReply("1", "\\boxed{1} or \\boxed{2}"));
});

Deno.test("findAnswer() reads no answer from an open or empty box", () => {
  assert.equal(findAnswer("\\boxed{3"), undefined);
  assert.equal(findAnswer("\\boxed{}"), undefined);
  assert.deepEqual(boxedAnswers("a \\boxed{\\frac{1}{2}} b \\boxed{x}"), ["\\frac{1}{2}", "x"]);
});

Deno.test("isSameAnswer() holds for any rational in any form, and not for another", () => {
  const whole = fc.integer({ min: -999, max: 999 });
  const positive = fc.integer({ min: 1, max: 99 });
  fc.assert(fc.property(whole, positive, positive, (a, b, k) => {
    const forms = [`\\frac{${a}}{${b}}`, `${a}/${b}`, `\\dfrac{${a * k}}{${b * k}}`];
    for (const x of forms) for (const y of forms) assert.ok(isSameAnswer(x, y), `${x} ${y}`);
    assert.ok(!isSameAnswer(`\\frac{${a}}{${b}}`, `\\frac{${a + 1}}{${b}}`));
    assert.ok(isSameAnswer(`(x+${b})^2`, `x^2+${2 * b}x+${b * b}`));
    assert.ok(!isSameAnswer(`(x+${b})^2`, `x^2+${2 * b}x+${b * b + k}`));
  }));
});

Deno.test("isSameAnswer() ends on any text", () => {
  fc.assert(fc.property(fc.string({ maxLength: 60 }), fc.string({ maxLength: 60 }), (a, b) => {
    assert.equal(typeof isSameAnswer(a, b), "boolean");
  }));
  const deep = "(".repeat(3000);
  assert.ok(!isSameAnswer("1", deep));
  assert.ok(!isSameAnswer("1", `\\boxed{${"{".repeat(900)}`));
});

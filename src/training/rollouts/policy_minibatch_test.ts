import assert from "node:assert/strict";
import { dapoOptions, gspoOptions } from "../policy/policy_loss.ts";
import { PolicyMinibatch, type WeighedAnswer } from "./policy_minibatch.ts";

/** A question of `length` tokens with one picture of two visual tokens. */
const questionOf = (length: number, colour: number) => ({
  ids: Array.from({ length }, (_, i) => i + 10),
  spans: [{ start: 1, count: 2 }],
  tiles: [new Uint8Array(12).fill(colour)],
});

const [first, second] = [questionOf(6, 1), questionOf(5, 2)];

const answerOf = (question: typeof first, advantage: number, logprobs: number[]) => ({
  question,
  answer: { ids: logprobs.map((_, i) => i + 50), logprobs, isFinished: true },
  advantage,
});

const answers: WeighedAnswer[] = [
  answerOf(first, 1, [-1, -2, -0.5]),
  answerOf(first, -1, [-0.2, -0.7]),
  answerOf(second, 0.5, [-1.5, -0.1, -0.4, -3]),
  answerOf(second, -0.5, [-2]),
];

const lossOf = { dapo: dapoOptions, gspo: () => gspoOptions(0.05, 0.08) };

/** Log probabilities that moved by a third of the number of their token in the update. */
function lossOfAll(minibatch: PolicyMinibatch) {
  let [loss, at] = [0, 0];
  const all = answers.flatMap(({ answer }) => answer.logprobs);
  const slopes: number[] = [];
  for (const batch of minibatch.batches) {
    const now = batch.targets.map((_) => 0);
    const logprobs = Float32Array.from(now, () => all[at]! + Math.sin(at++) / 3);
    const judged = minibatch.loss(batch, logprobs);
    loss += judged.loss;
    slopes.push(...judged.slopes);
  }
  return { loss, slopes, figures: minibatch.figures };
}

function closeTo(actual: readonly number[], expected: readonly number[]): void {
  assert.equal(actual.length, expected.length);
  for (const [i, value] of actual.entries()) {
    assert.ok(Math.abs(value - expected[i]!) < 1e-6, `${i}: ${value} is not ${expected[i]}`);
  }
}

for (const kind of ["dapo", "gspo"] as const) {
  Deno.test(`PolicyMinibatch of ${kind} has one loss however it is cut into micro-batches`, () => {
    const cut = (rowsMax: number) =>
      new PolicyMinibatch(answers, { rowsMax, lossOf: lossOf[kind] });
    const whole = lossOfAll(cut(1000));
    assert.ok(whole.slopes.some((slope) => slope !== 0));
    for (const rowsMax of [1, 9, 16]) {
      const minibatch = cut(rowsMax);
      assert.ok(minibatch.batches.length > 1);
      const parts = lossOfAll(minibatch);
      closeTo([parts.loss], [whole.loss]);
      closeTo(parts.slopes, whole.slopes);
      closeTo(Object.values(parts.figures), Object.values(whole.figures));
    }
  });
}

Deno.test("PolicyMinibatch lays answers out, and a question's picture once", () => {
  const [batch] = new PolicyMinibatch(answers, { rowsMax: 1000, lossOf: dapoOptions }).batches;
  const { tokenIds, positions, scoredRows, targets, tiles, visualRows, visualTokens } = batch!;
  // The last token of an answer predicts nothing and has no row.
  assert.equal(tokenIds.length, 6 + 2 + 6 + 1 + 5 + 3 + 5);
  assert.deepEqual([...positions.slice(0, 10)], [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]);
  assert.deepEqual([...tokenIds.slice(4, 8)], [14, 15, 50, 51]);
  assert.deepEqual([...scoredRows.slice(0, 5)], [5, 6, 7, 13, 14]);
  assert.deepEqual([...targets.slice(0, 5)], [50, 51, 52, 50, 51]);
  assert.deepEqual([...tiles], [...first.tiles[0]!, ...second.tiles[0]!]);
  assert.deepEqual([...visualRows], [1, 2, 9, 10, 16, 17, 24, 25]);
  assert.deepEqual([...visualTokens!], [0, 1, 0, 1, 2, 3, 2, 3]);
});

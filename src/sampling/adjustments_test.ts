import assert from "node:assert/strict";
import { seededRandom } from "@/random.ts";
import { adjustmentsOf, TokenHistory } from "./adjustments.ts";
import { greedyParams, type SamplingParams } from "./params.ts";

const VOCABULARY = 12;

function historyOf(prompt: readonly number[], answer: readonly number[]): TokenHistory {
  const history = new TokenHistory(new Set(prompt));
  for (const id of answer) history.push(id);
  return history;
}

/** The formulas, applied to every id. */
function directLogit(
  id: number,
  logit: number,
  args: { params: SamplingParams; prompt: readonly number[]; answer: readonly number[] },
): number {
  const { params, prompt, answer } = args;
  const count = answer.filter((other) => other === id).length;
  if (count > 0 || prompt.includes(id)) {
    const penalty = params.repetitionPenalty;
    logit = logit > 0 ? logit / penalty : logit * penalty;
  }
  logit += params.logitBias.get(id) ?? 0;
  logit -= params.frequencyPenalty * count;
  if (count > 0) logit -= params.presencePenalty;
  return id === 1 && answer.length < params.minTokens ? -Infinity : logit;
}

Deno.test("adjustmentsOf() equals the formulas on random histories", () => {
  const random = seededRandom(1);
  const draw = (count: number) =>
    Array.from({ length: count }, () => Math.floor(random() * VOCABULARY));
  for (let round = 0; round < 200; round++) {
    const params: SamplingParams = {
      ...greedyParams,
      repetitionPenalty: random() < 0.5 ? 1 : 0.8 + random(),
      presencePenalty: random() < 0.5 ? 0 : random() * 4 - 2,
      frequencyPenalty: random() < 0.5 ? 0 : random() * 4 - 2,
      logitBias: new Map(draw(2).map((id) => [id, random() * 10 - 5])),
      minTokens: Math.floor(random() * 8),
    };
    const [prompt, answer] = [draw(5), draw(Math.floor(random() * 8))];
    const lists = adjustmentsOf({
      params,
      history: historyOf(prompt, answer),
      answerTokens: answer.length,
      endTokenIds: [1],
    });
    assert.equal(new Set(lists.tokens).size, lists.tokens.length, "ids are distinct");
    for (let id = 0; id < VOCABULARY; id++) {
      const logit = random() * 8 - 4;
      const at = lists.tokens.indexOf(id);
      const penalty = at < 0 ? 1 : lists.penalties[at]!;
      const adjusted = (logit > 0 ? logit / penalty : logit * penalty) +
        (at < 0 ? 0 : lists.adds[at]!);
      const expected = directLogit(id, logit, { params, prompt, answer });
      assert.ok(adjusted === expected || Math.abs(adjusted - expected) < 1e-9, `id ${id}`);
    }
  }
});

Deno.test("adjustmentsOf() is empty for neutral parameters", () => {
  const history = historyOf([1, 2], [3, 3]);
  const lists = adjustmentsOf({
    params: greedyParams,
    history,
    answerTokens: 2,
    endTokenIds: [1],
  });
  assert.deepEqual(lists, { tokens: [], penalties: [], adds: [] });
});

Deno.test("TokenHistory.pop() takes back what was pushed, and only that", () => {
  const history = historyOf([1], [3, 3, 4]);
  for (const id of [3, 5, 5]) history.push(id);
  for (const id of [5, 3, 5]) history.pop(id);
  assert.deepEqual(new Map(history.answerCounts), new Map([[3, 2], [4, 1]]));
  assert.throws(() => history.pop(5), /not pushed/);
});

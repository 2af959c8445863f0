import assert from "node:assert/strict";
import { defaultSettings, makeSample } from "@/data/makers/maker_registry.ts";
import type { Sample } from "@/data/makers/sample.ts";
import type { Reward } from "../policy/rewards.ts";
import { type AnswerJudge, RewardJudge, rewardOf } from "./answer_judge.ts";
import { type GroupOptions, sampleGroups, weighAnswers } from "./answer_groups.ts";
import type { Answer } from "./answerer.ts";
import { asFreeResponse, type Question } from "./question.ts";
import { samplingFigures } from "./sampling_figures.ts";
import { Tokenizer } from "@/tokenizer/tokenizer.ts";

const settings = defaultSettings(64);
const sample = makeSample("count", { seed: 1, index: 0, settings });
const question: Question = {
  sample,
  thinking: true,
  encoded: { ids: [1, 2], spans: [], tiles: [] },
};

const tokenizer = Tokenizer.byteLevel(400);
const weights = { accuracy: 1, format: 0, thought: 0 };

/** Answers whose lengths are the rewards that `rewards` gives them, in order. */
function options(rewards: readonly (readonly Reward[])[]): GroupOptions {
  let at = 0;
  const flat = rewards.flat();
  const judge: AnswerJudge = {
    name: "test",
    judge: (answers) =>
      Promise.resolve(
        answers.map(() => ({ accuracy: flat[at++]!, format: null, thought: null })),
      ),
  };
  const answer: Answer = { ids: [65, 66, 67], logprobs: [-1, -1, -1], isFinished: true };
  return {
    answerer: {
      answer: (asked, { answersPerQuestion }) =>
        Promise.resolve(asked.map(() => Array.from({ length: answersPerQuestion }, () => answer))),
    },
    tokenizer,
    judge,
    weights,
    style: { answersPerQuestion: 4, temperature: 1, tokensMax: 8 },
  };
}

const sampling = (rewards: Reward[][], wanted: number, resampleMax: number) => {
  const seeds: number[] = [];
  const draw = () => {
    seeds.push(seeds.length);
    return { question, seed: seeds.length };
  };
  return { seeds, result: sampleGroups({ ...options(rewards), wanted, resampleMax, draw }) };
};

Deno.test("sampleGroups() replaces groups that teach nothing, a bounded number of times", async () => {
  const all = [1, 1, 1, 1];
  const none = [0, 0, 0, 0];
  const mixed = [1, 0, 0, 1];
  const { seeds, result } = sampling([all, mixed, none, mixed, none, mixed], 3, 5);
  const { asked, kept } = await result;
  assert.deepEqual([asked.length, kept.length, seeds.length], [6, 3, 6]);
  assert.ok(kept.every(({ rewards }) => rewards.join() === mixed.join()));
  const figures = samplingFigures({ asked, kept });
  assert.equal(figures.droppedShare, 0.5);
  assert.equal(figures.passRate, 4 / 6);
  assert.equal(figures.reward, (4 + 3 * 2) / 24);
  const bounded = await sampling([none, none, mixed, none, none], 2, 1).result;
  assert.deepEqual([bounded.asked.length, bounded.kept.length], [4, 1]);
  const never = await sampling([none, all, none, all], 2, 1).result;
  assert.equal(never.kept.length, 0);
});

Deno.test("a judge's failure leaves the answer out and never counts as 0", async () => {
  const { asked, kept } = await sampling(
    [
      [null, 1, 1, 1], // nothing to learn: what was judged is equal
      [null, 1, null, 0],
      [null, null, null, 1],
    ],
    3,
    0,
  ).result;
  assert.deepEqual(kept, [asked[1]]);
  const weighed = weighAnswers(kept[0]!, { tokensMax: 8, bufferTokens: 2 });
  assert.equal(weighed.length, 2);
  // With a 0 for the failures the mean would be 1/4 and the advantages unequal.
  assert.ok(Math.abs(weighed[0]!.advantage + weighed[1]!.advantage) < 1e-12);
  const figures = samplingFigures({ asked, kept });
  assert.equal(figures.reward, 5 / 6);
  assert.equal(figures.unjudgedShare, 0.5);
});

Deno.test("weighAnswers() punishes long answers softly and cut ones fully", () => {
  const answerOf = (length: number, isFinished = true) => ({
    answer: { ids: Array(length).fill(1), logprobs: Array(length).fill(-1), isFinished },
    reply: "",
    parts: { accuracy: 1, format: null, thought: null },
    reward: 1,
  });
  const answers = [answerOf(4), answerOf(7), answerOf(8, false)];
  const rewards = answers.map(({ reward }) => reward);
  const weighed = weighAnswers({ prompt: question, answers, rewards }, {
    tokensMax: 8,
    bufferTokens: 2,
  });
  // Rewards 1, 1/2 and 0: the same distance above and below their mean.
  const [short, long, cut] = weighed.map(({ advantage }) => advantage) as [number, number, number];
  assert.ok(short > 0.9 && Math.abs(long) < 1e-9 && Math.abs(short + cut) < 1e-9);
});

Deno.test("rewardOf() shares the thought's weight out when no thought was asked", () => {
  const weights = { accuracy: 0.6, format: 0.2, thought: 0.2 };
  const parts = { accuracy: 1, format: 0, thought: null };
  assert.equal(rewardOf(parts, weights, true), null);
  assert.ok(Math.abs(rewardOf(parts, weights, false)! - 0.75) < 1e-12);
});

Deno.test("RewardJudge asks its judge of thoughts only where a thought counts", async () => {
  const seen: string[] = [];
  const thoughts = {
    name: "spy",
    judge: (replies: readonly { reply: string }[]) => {
      seen.push(...replies.map(({ reply }) => reply));
      return Promise.resolve(replies.map(() => null));
    },
  };
  const answer: Answer = { ids: [1], logprobs: [-1], isFinished: true };
  const [{ answer: truth }] = sample.turns as [typeof sample.turns[0]];
  const replies = [
    { question, answer, reply: `<think>so</think>\\boxed{${truth}}` },
    { question: { ...question, thinking: false }, answer, reply: truth },
    { question, answer, reply: truth },
  ];
  const mixed = new RewardJudge({ accuracy: 0.6, format: 0.1, thought: 0.3 }, thoughts);
  assert.deepEqual(await mixed.judge(replies), [
    { accuracy: 1, format: 1, thought: null },
    { accuracy: 1, format: 1, thought: null },
    { accuracy: 0, format: 0, thought: 0 },
  ]);
  assert.deepEqual(seen, [replies[0]!.reply]);
  await mixed.judge(replies, { onlyAccuracy: true });
  const plain = new RewardJudge({ accuracy: 0.9, format: 0.1, thought: 0 }, thoughts);
  await plain.judge(replies);
  assert.equal(seen.length, 1);
  assert.notEqual(plain.name, mixed.name);
});

Deno.test("asFreeResponse() takes the options away, or the question if it needs them", () => {
  const choice = (question: string, answer: string): Sample => ({
    ...sample,
    turns: [{ question, answer }],
  });
  assert.equal(asFreeResponse(sample), sample);
  const free = asFreeResponse(choice("How many shapes are there? (A) 3 (B) 4", "B"));
  assert.deepEqual(free?.turns, [{ question: "How many shapes are there?", answer: "4" }]);
  const needs = choice("Which of the following is red? (A) circle (B) star", "A");
  assert.equal(asFreeResponse(needs), undefined);
});

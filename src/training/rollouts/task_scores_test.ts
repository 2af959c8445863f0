import assert from "node:assert/strict";
import { defaultSettings, makeSample } from "@/data/makers/maker_registry.ts";
import { readConfig } from "@/model/open_checkpoint.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { openModelText } from "../model_text.ts";
import type { Answer } from "./answerer.ts";
import { scoreTask, wilsonInterval } from "./task_scores.ts";

const folder = new URL("../../../tests/fixtures/model/dense", import.meta.url).pathname;

const close = (actual: number, expected: number) =>
  assert.ok(Math.abs(actual - expected) < 5e-5, `${actual} is not ${expected}`);

Deno.test("wilsonInterval() gives the known bounds and never leaves 0 to 1", () => {
  for (
    const [right, count, low, high] of [
      [8, 10, 0.49016, 0.94331],
      [0, 10, 0, 0.27753],
      [10, 10, 0.72247, 1],
      [980, 1000, 0.96933, 0.98702],
    ] as const
  ) {
    const interval = wilsonInterval(right, count);
    close(interval.low, low);
    close(interval.high, high);
  }
  assert.deepEqual(wilsonInterval(0, 0), { low: 0, high: 1 });
});

Deno.test("scoreTask() counts right, wrong and cut answers of every question", async () => {
  const settings = defaultSettings(56);
  const text = await openModelText(folder, await readConfig(diskFolder(folder)));
  const { tokenizer, promptTokens } = text;
  let index = 0;
  /** Every third answer is wrong, and the first of those is cut. */
  const said = (): Answer => {
    const [turn] = makeSample("number", { seed: 7, index, settings }).turns;
    const isRight = index++ % 3 !== 0;
    const ids = tokenizer.encode(isRight ? turn!.answer : "none");
    const isFinished = index !== 1;
    return { ids: isFinished ? [...ids, promptTokens.turnEnd] : ids, logprobs: [], isFinished };
  };
  const batches: number[] = [];
  const score = await scoreTask("number", 300, {
    answerer: {
      answer: (asked, style) => {
        assert.deepEqual(style, { answersPerQuestion: 1, temperature: 0, tokensMax: 9 });
        return Promise.resolve(asked.map(() => [said()]));
      },
    },
    text,
    settings,
    seed: 7,
    thinking: false,
    answerTokensMax: 9,
    onProgress: (count) => batches.push(count),
  });
  const { count, right, accuracy, cut, wrong } = score;
  assert.deepEqual({ count, right, cut, batches }, {
    count: 300,
    right: 200,
    cut: 1,
    batches: [256, 44],
  });
  assert.ok(score.low < accuracy && accuracy < score.high);
  assert.deepEqual(wrong.slice(0, 2).map(({ id, reply }) => [id, reply]), [
    ["number/7/0", "none"],
    ["number/7/3", "none"],
  ]);
});

Deno.test("scoreTask() estimates pass@k from sampled answers", async () => {
  const settings = defaultSettings(56);
  const text = await openModelText(folder, await readConfig(diskFolder(folder)));
  /** One question is never answered, the other two by one and by three of four tries. */
  const right = [0, 1, 3];
  const seeds: number[] = [];
  const score = await scoreTask("number", 3, {
    answerer: {
      answer: (asked, { answersPerQuestion, temperature }) => {
        if (temperature === 1) seeds.push(...asked.map(({ seed }) => seed));
        return Promise.resolve(asked.map((_, index) => {
          const [turn] = makeSample("number", { seed: 7, index, settings }).turns;
          return Array.from({ length: answersPerQuestion }, (_, i): Answer => ({
            ids: text.tokenizer.encode(i < right[index]! ? turn!.answer : "none"),
            logprobs: [],
            isFinished: false,
          }));
        }));
      },
    },
    text,
    settings,
    seed: 7,
    thinking: false,
    answerTokensMax: 9,
    tries: 4,
  });
  close(score.passAtOne!, (0 + 1 / 4 + 3 / 4) / 3);
  close(score.passAtTries!, 2 / 3);
  assert.equal(new Set(seeds).size, 3);
});

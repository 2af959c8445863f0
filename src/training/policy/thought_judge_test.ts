import assert from "node:assert/strict";
import { defaultSettings, makeSample, type TaskName } from "@/data/makers/maker_registry.ts";
import type { Sample } from "@/data/makers/sample.ts";
import { thinkingAnswer } from "../conversation_encoder.ts";
import { HttpJudge } from "./http_judge.ts";
import { judgeByRules, ruleJudge } from "./thought_judge.ts";

const settings = defaultSettings(64);
const sampleOf = (task: TaskName, index = 0) => makeSample(task, { seed: 3, index, settings });
const judge = (sample: Sample, thought: string, answer: string) =>
  judgeByRules({ sample, reply: `<think>${thought}</think>\\boxed{${answer}}` });

Deno.test("judgeByRules() finds every thought of the makers sound", () => {
  for (const task of ["arithmetic", "word_problem"] as const) {
    for (let index = 0; index < 200; index++) {
      const sample = sampleOf(task, index);
      const reply = thinkingAnswer(sample.turns[0]!);
      assert.equal(judgeByRules({ sample, reply }), 1, `${sample.id}: ${reply}`);
    }
  }
});

Deno.test("judgeByRules() refuses wrong steps, other pictures, other answers", () => {
  const sample: Sample = {
    ...sampleOf("arithmetic"),
    turns: [{ question: "What is the sum?", answer: "82" }],
    truth: { answerKind: "number", facts: { expression: "37+45", steps: ["37+40=77"], value: 82 } },
  };
  assert.equal(judge(sample, "The image shows 37+45. 37+40=77, 77+5=82.", "82"), 1);
  assert.equal(judge(sample, "The image shows 37 + 45. 37 + 45 = 77 + 5 = 82.", "82"), 1);
  // An unsound step, though the answer is right.
  assert.equal(judge(sample, "The image shows 37+45. 37+40=78, 77+5=82.", "82"), 0);
  // Not of this picture.
  assert.equal(judge(sample, "The image shows 36+46. 36+46=82.", "82"), 0);
  // No calculation at all.
  assert.equal(judge(sample, "The image shows 37+45. So it is 82.", "82"), 0);
  // The thought leads elsewhere.
  assert.equal(judge(sample, "The image shows 37+45. 37+40=77.", "82"), 0);
  // A sound thought of a wrong reading is not grounded, one with a wrong answer not consistent.
  assert.equal(judge(sample, "The image shows 37+45. 37+45=82.", "83"), 0);
  assert.equal(judge(sample, "", "82"), 0);
  assert.equal(judgeByRules({ sample, reply: "\\boxed{82}" }), 0);
});

Deno.test("judgeByRules() cannot tell about free texts, which is null and not 0", async () => {
  const caption = sampleOf("caption");
  assert.equal(judge(caption, "I see it", caption.turns[0]!.answer), null);
  const count: Sample = {
    ...sampleOf("count"),
    turns: [{ question: "How many?", answer: "3" }],
    truth: { answerKind: "number", facts: {} },
  };
  const reply = "<think>There are 3 shapes.</think>\\boxed{3}";
  assert.deepEqual(await ruleJudge.judge([{ sample: count, reply }]), [1]);
  assert.equal(judge(count, "There are 2 shapes.", "3"), 0);
});

const judged = [0, 1, 2, 3].map((index) => ({
  sample: sampleOf("count", index),
  reply: `<think>reply ${index}</think>\\boxed{1}`,
}));

/** An endpoint that answers by the number in the reply. */
function endpoint(answers: readonly (string | number | "silence")[]): typeof fetch {
  return (_url, options) => {
    const { messages } = JSON.parse(options!.body as string);
    const text: string = messages[0].content.at(-1).text;
    const answer = answers[Number(/reply (\d)/.exec(text)![1])]!;
    if (answer === "silence") {
      return new Promise((_, reject) => {
        options!.signal!.addEventListener("abort", () => reject(options!.signal!.reason));
      });
    }
    if (typeof answer === "number") return Promise.resolve(new Response("no", { status: answer }));
    const body = { choices: [{ message: { role: "assistant", content: answer } }] };
    return Promise.resolve(Response.json(body));
  };
}

const httpJudge = (answers: readonly (string | number | "silence")[], reasons: string[] = []) =>
  new HttpJudge({
    url: "http://judge.test/v1/",
    model: "judge",
    timeoutMs: 50,
    concurrency: 2,
    fetch: endpoint(answers),
    onFailure: (reason) => reasons.push(reason),
  });

Deno.test("HttpJudge gives the endpoint's verdicts in order", async () => {
  assert.deepEqual(await httpJudge(["1", "0", " 1\n", "0"]).judge(judged), [1, 0, 1, 0]);
});

Deno.test("HttpJudge makes null of all that goes wrong, never 0", async () => {
  const reasons: string[] = [];
  const rewards = await httpJudge(["silence", 500, "maybe", "1"], reasons).judge(judged);
  assert.deepEqual(rewards, [null, null, null, 1]);
  assert.equal(reasons.length, 3);
  assert.ok(reasons.some((reason) => /status 500/.test(reason)), `${reasons}`);
  assert.ok(reasons.some((reason) => /expected 1 or 0/.test(reason)), `${reasons}`);
});

Deno.test("HttpJudge sends the picture, the truth and the key", async () => {
  const seen: { url: string; body: string; key: string | null }[] = [];
  const judge = new HttpJudge({
    url: "http://judge.test/v1",
    model: "judge",
    key: "secret",
    timeoutMs: 1000,
    concurrency: 1,
    fetch: (url, options) => {
      const key = new Headers(options!.headers).get("authorization");
      seen.push({ url: String(url), body: String(options!.body), key });
      return Promise.resolve(Response.json({ choices: [{ message: { content: "1" } }] }));
    },
  });
  await judge.judge(judged.slice(0, 1));
  const [{ url, body, key }] = seen as [typeof seen[0]];
  assert.equal(url, "http://judge.test/v1/chat/completions");
  assert.equal(key, "Bearer secret");
  const [image, text] = JSON.parse(body).messages[0].content;
  assert.match(image.image_url.url, /^data:image\/png;base64,iVBOR/);
  assert.ok(text.text.includes(`True answer: ${judged[0]!.sample.turns[0]!.answer}`));
});

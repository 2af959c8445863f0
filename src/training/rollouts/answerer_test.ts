/** Answers through the serving engine on the trainer's own parameters. */
import assert from "node:assert/strict";
import { systemClock } from "@/clock.ts";
import { defaultSettings, makeSample } from "@/data/makers/maker_registry.ts";
import type { Backend } from "@/kernels/backend.ts";
import { openBackend } from "@/kernels/open.ts";
import { openCheckpoint } from "@/model/open_checkpoint.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import type { EncodedQuestion } from "../conversation_encoder.ts";
import { type ModelText, openModelText } from "../model_text.ts";
import { Trainer } from "../trainer.ts";
import { loadTrainable, type TrainableModel } from "../training_source.ts";
import type { Answer } from "./answerer.ts";
import { PolicyMinibatch } from "./policy_minibatch.ts";
import { dapoOptions } from "../policy/policy_loss.ts";
import { questionOf } from "./question.ts";
import { answererOf } from "./trainable_answerer.ts";

const settings = defaultSettings(56);

interface Opened {
  readonly backend: Backend;
  readonly model: TrainableModel;
  readonly text: ModelText;
  readonly trainer: Trainer;
}

async function withModel(name: string, use: (opened: Opened) => Promise<void>): Promise<void> {
  const folder = new URL(`../../../tests/fixtures/model/${name}`, import.meta.url).pathname;
  const backend = await openBackend({ name: "wasm", training: true, threads: 1 });
  try {
    const { checkpoint, config } = await openCheckpoint({ folder: diskFolder(folder) });
    const model = await loadTrainable({ checkpoint, config, backend });
    checkpoint.close();
    model.set.choose(backend, () => true);
    const optimizer = { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, normMax: 1 };
    const trainer = new Trainer({ backend, model, optimizer });
    await use({ backend, model, text: await openModelText(folder, config), trainer });
    trainer.close();
  } finally {
    await backend.close();
  }
}

const questionsOf = ({ text: { encoder } }: Opened): EncodedQuestion[] =>
  [
    makeSample("digit", { seed: 1, index: 0, settings }),
    makeSample("talk", { seed: 1, index: 1, settings }),
    makeSample("count", { seed: 1, index: 2, settings }),
  ].map((sample) => questionOf(sample, { encoder, thinking: false }).encoded);

/** One answer of a question as the trainer's batch. */
const batchOf = (question: EncodedQuestion, answer: Answer) =>
  new PolicyMinibatch([{ question, answer, advantage: 1 }], {
    rowsMax: 1 << 20,
    lossOf: dapoOptions,
  }).batches[0]!;

/** What the trainer's model would say at each place of an answer. */
async function argmaxes(
  { trainer, model, text }: Opened,
  question: EncodedQuestion,
  answer: Answer,
): Promise<number[]> {
  const { tokenizer, promptTokens: { imageStart, imageEnd, imageContext } } = text;
  const vocabulary = Math.min(tokenizer.size, model.parameters.decoder.embedding.rows);
  const ids = Array.from({ length: vocabulary }, (_, id) => id)
    .filter((id) => ![imageStart, imageEnd, imageContext].includes(id));
  const batch = batchOf(question, answer);
  const best: number[] = [];
  for (const row of batch.scoredRows) {
    const { logprobs } = await trainer.score({
      ...batch,
      scoredRows: new Int32Array(ids.length).fill(row),
      targets: Int32Array.from(ids),
    });
    best.push(ids[logprobs.indexOf(logprobs.reduce((a, b) => Math.max(a, b)))]!);
  }
  return best;
}

const greedy = { answersPerQuestion: 1, temperature: 0, tokensMax: 6 };

Deno.test("greedy answers are the trainer's argmax, also after a step of the optimiser", () =>
  withModel("dense", async (opened) => {
    const { trainer } = opened;
    const questions = questionsOf(opened);
    const answerer = answererOf({ ...opened, clock: systemClock });
    const asked = questions.map((question) => ({ question, seed: 0 }));
    const check = async () => {
      const answers = (await answerer.answer(asked, greedy)).map(([answer]) => answer!);
      for (const [i, answer] of answers.entries()) {
        assert.deepEqual(answer.ids, await argmaxes(opened, questions[i]!, answer));
        const { logprobs } = await trainer.score(batchOf(questions[i]!, answer));
        for (const [t, logprob] of answer.logprobs.entries()) {
          assert.ok(Math.abs(logprob - logprobs[t]!) < 1e-4, `${logprob} and ${logprobs[t]}`);
        }
      }
      return answers;
    };
    const before = await check();
    await trainer.step(
      before.map((answer, i) => batchOf(questions[i]!, { ...answer, ids: [5, 6, 7] })),
      () => ({ rate: 0.01, decay: 0 }),
    );
    const after = await check();
    assert.notDeepEqual(after.map(({ logprobs }) => logprobs), before.map((one) => one.logprobs));
  }));

Deno.test("answers depend on their seed and not on their company, in more than one request", () =>
  withModel("moe", async (opened) => {
    const [digit, talk] = questionsOf(opened) as [EncodedQuestion, EncodedQuestion];
    const answerer = answererOf({ ...opened, clock: systemClock });
    const style = { answersPerQuestion: 18, temperature: 1, tokensMax: 5 };
    const ask = (asked: { question: EncodedQuestion; seed: number }[], answersPerQuestion = 18) =>
      answerer.answer(asked, { ...style, answersPerQuestion });
    const [first, second] = await ask([{ question: digit, seed: 3 }, { question: talk, seed: 4 }]);
    assert.equal(first!.length, 18);
    const distinct = new Set(first!.map(({ ids }) => ids.join()));
    assert.ok(distinct.size > 15, `${distinct.size} different answers of 18`);
    assert.deepEqual(await ask([{ question: talk, seed: 4 }]), [second]);
    assert.deepEqual((await ask([{ question: digit, seed: 3 }], 2))[0], first!.slice(0, 2));
    assert.notDeepEqual(await ask([{ question: talk, seed: 5 }]), [second]);
  }));

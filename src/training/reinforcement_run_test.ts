/** Reinforcement on tiny models: a reward that the sampled tokens decide, on the serving engine. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { systemClock } from "@/clock.ts";
import { openBackend } from "@/kernels/open.ts";
import { loraTargets } from "./lora_targets.ts";
import { withAdditions } from "./low_rank.ts";
import { readStore, writeStore } from "./parameter_values.ts";
import { filterQuestions } from "./question_choice.ts";
import { type ReinforcementRecipe, reinforcementRecipe } from "./recipes/recipe.ts";
import { ReinforcementDriver } from "./reinforcement_run.ts";
import type { ReinforcementOptions } from "./reinforcement_setting.ts";
import { readLog, type StepRecord } from "./run_log.ts";
import { openSetting, type RunSetting } from "./run_setting.ts";
import type { AnswerJudge } from "./rollouts/answer_judge.ts";
import { answererOf } from "./rollouts/trainable_answerer.ts";
import { trainRun } from "./training_run.ts";

const fixture = (name: string) =>
  new URL(`../../tests/fixtures/model/${name}`, import.meta.url).pathname;

const recipe = reinforcementRecipe({
  name: "tiny",
  purpose: "",
  trainable: ["decoder"],
  data: { seed: 5, mixture: { talk: 1 } },
  optimizer: { peakRate: 3e-3, weightDecay: 0 },
  steps: 6,
  promptsPerStep: 3,
  answersPerPrompt: 8,
  updatesPerStep: 2,
  answerTokensMax: 3,
  overlongBufferTokens: 1,
  resampleMax: 1,
  reward: { accuracy: 1, format: 0, thought: 0 },
  checkpoints: { everySteps: 2, kept: 9 },
});

/** Right is an answer that begins with a token of every so many. */
const everyToken = (every: number): AnswerJudge => ({
  name: `every ${every}. token`,
  judge: (answers) =>
    Promise.resolve(answers.map(({ answer }) => ({
      accuracy: Number(answer.ids[0]! % every === 0),
      format: null,
      thought: null,
    }))),
});

interface Opened {
  readonly setting: RunSetting;
  readonly options: ReinforcementOptions;
}

async function withRun<T>(
  { recipe, model = "dense", judge = everyToken(4) }: {
    recipe: ReinforcementRecipe;
    model?: string;
    judge?: AnswerJudge;
  },
  use: (opened: Opened) => Promise<T>,
): Promise<T> {
  const backend = await openBackend({ name: "wasm", training: true, threads: 1 });
  try {
    const setting = await openSetting({ recipe, modelFolder: fixture(model), backend });
    const { trainer } = setting;
    const text = setting;
    const answerer = answererOf({ ...setting, text, clock: systemClock });
    const isSparse = model === "moe";
    const options = { recipe, trainer, answerer, text, judge, isSparse, clock: systemClock };
    const result = await use({ setting, options });
    trainer.close();
    return result;
  } finally {
    await backend.close();
  }
}

/** Runs up to `until` steps in a folder, from its newest checkpoint. */
async function run(
  folder: string,
  until: number,
  config: Parameters<typeof withRun>[0],
): Promise<StepRecord[]> {
  await withRun(config, async ({ setting, options }) => {
    let stepsDone = 0;
    await trainRun({
      parts: setting.parts,
      openDriver: (resumed) => {
        const state = resumed?.run;
        const driver = new ReinforcementDriver(options, { state });
        stepsDone = driver.stepsDone;
        return Promise.resolve(driver);
      },
      steps: config.recipe.steps,
      folder,
      checkpoints: config.recipe.checkpoints,
      clock: systemClock,
      onStep: ({ step }) => stepsDone = step,
      isStopping: () => stepsDone >= until,
    });
  });
  return await readLog(folder);
}

const withFolder = async (use: (folder: string) => Promise<void>) => {
  const folder = await Deno.makeTempDir();
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
};

/** Figures without times. */
const timeless = (records: readonly StepRecord[]) =>
  records.map((record) =>
    Object.fromEntries(Object.entries(record).filter(([name]) => !/econd/.test(name)))
  );

Deno.test("reinforcement raises the reward, and resumed it goes on with the same bits", () =>
  withFolder(async (folder) => {
    const [whole, cut] = [join(folder, "whole"), join(folder, "cut")];
    const records = await run(whole, 6, { recipe });
    const rewards = records.map(({ reward }) => reward!);
    assert.equal(rewards.length, 6);
    assert.ok(rewards[0]! < 0.5 && rewards.at(-1)! > rewards[0]! + 0.3, `rewards ${rewards}`);
    const [first] = records as [StepRecord];
    // Engine and trainer compute the same weights with other kernels for attention.
    assert.ok(first.samplingDrift! < 1e-4, `drift ${first.samplingDrift}`);
    assert.ok(first.entropy > 0 && first.completions!.length >= 3);
    await run(cut, 3, { recipe });
    // What a kill after the checkpoint of step 2 leaves behind.
    await Deno.remove(join(cut, "checkpoint-00000003"), { recursive: true });
    assert.deepEqual(timeless(await run(cut, 6, { recipe })), timeless(records));
    for (
      const name of ["model.safetensors", "training/moments.safetensors", "training/state.json"]
    ) {
      const [a, b] = [whole, cut].map((out) =>
        Deno.readFileSync(join(out, "checkpoint-00000006", name))
      );
      assert.deepEqual(a, b, name);
    }
  }));

Deno.test("a sparse model gets GSPO, and its reward rises too", () =>
  withFolder(async (folder) => {
    const records = await run(folder, 6, { recipe, model: "moe" });
    const rewards = records.map(({ reward }) => reward!);
    assert.ok(rewards.at(-1)! > rewards[0]! + 0.15, `rewards ${rewards}`);
    assert.ok(records.every(({ balance }) => balance === undefined || balance > 0));
    // GSPO's narrow bounds clip the second update of a step; DAPO's would not yet.
    assert.ok(records.some(({ clipFraction }) => clipFraction! > 0.02));
  }));

Deno.test("computing a sparse model's layers again changes no bit of a step", () =>
  withFolder(async (folder) => {
    const short = { ...recipe, steps: 2 };
    const records = await run(join(folder, "kept"), 2, { recipe: short, model: "moe" });
    const again = { ...short, activationCheckpointing: true };
    const others = await run(join(folder, "again"), 2, { recipe: again, model: "moe" });
    assert.ok(records[0]!.balance! > 0);
    assert.deepEqual(timeless(others), timeless(records));
  }));

Deno.test("answers that cannot be judged change nothing", () =>
  withFolder(async (folder) => {
    const judge: AnswerJudge = {
      name: "failing",
      judge: (answers) =>
        Promise.resolve(answers.map(() => ({ accuracy: null, format: null, thought: null }))),
    };
    const [record] = await run(folder, 1, { recipe: { ...recipe, steps: 1 }, judge });
    const { updates, reward, droppedShare, unjudgedShare } = record!;
    assert.deepEqual({ updates, reward, droppedShare, unjudgedShare }, {
      updates: 0,
      reward: 0,
      droppedShare: 1,
      unjudgedShare: 1,
    });
  }));

Deno.test("a stage without a question that teaches is refused", () =>
  withFolder(async (folder) => {
    const filtered = { ...recipe, difficultyTries: 2, steps: 2 };
    await withRun({ recipe: filtered, judge: everyToken(1) }, async ({ options }) => {
      const difficulty = await filterQuestions(options, { folder, fingerprint: "" });
      assert.throws(
        () => new ReinforcementDriver(options, { difficulty }),
        /Cannot train on 6 questions: 6 are always answered rightly, 0 never/,
      );
    });
  }));

Deno.test("another judge is refused", () =>
  withRun({ recipe }, ({ options }) => {
    const { state } = new ReinforcementDriver(options);
    const other = { ...options, judge: everyToken(3) };
    assert.throws(
      () => new ReinforcementDriver(other, { state }),
      /answers were judged by every 4. token, now by every 3. token/,
    );
    return Promise.resolve();
  }));

Deno.test("low-rank additions answer and learn, and resumed they go on with the same bits", () =>
  withFolder(async (folder) => {
    const lora = { rank: 4, alpha: 8, targets: [...loraTargets] };
    const low = {
      ...recipe,
      trainable: [],
      lora,
      optimizer: { ...recipe.optimizer, peakRate: 2e-2 },
    };
    const [whole, cut] = [join(folder, "whole"), join(folder, "cut")];
    const records = await run(whole, 6, { recipe: low });
    const rewards = records.map(({ reward }) => reward!);
    assert.ok(rewards.at(-1)! > rewards[0]! + 0.2, `rewards ${rewards}`);
    // The engine answers with what the trainer scores: the matrices and their additions.
    for (const { samplingDrift } of records.filter(({ updates }) => updates! > 0)) {
      assert.ok(samplingDrift! < 1e-4, `drift ${samplingDrift}`);
    }
    await run(cut, 2, { recipe: low });
    assert.deepEqual(timeless(await run(cut, 6, { recipe: low })), timeless(records));
    const read = (out: string, name: string) =>
      Deno.readFileSync(join(out, "checkpoint-00000006", name));
    for (const name of ["model.safetensors", "adapter/adapter_model.safetensors"]) {
      assert.deepEqual(read(cut, name), read(whole, name), name);
    }
  }));

Deno.test("matrices are what they were once their additions have been used", () => {
  const lora = { rank: 2, alpha: 4, targets: [...loraTargets] };
  return withRun({ recipe: { ...recipe, trainable: [], lora } }, async ({ setting }) => {
    const { backend, model } = setting;
    assert.ok("pairs" in model);
    const { base, up } = model.pairs[0]!;
    await writeStore(backend, up.store, new Float32Array(up.size).fill(0.1));
    const before = await readStore(backend, base.store);
    const failing = withAdditions(backend, model, async () => {
      const inside = await readStore(backend, base.store);
      assert.ok(inside.some((value, i) => value !== before[i]));
      throw new RangeError("no answer");
    });
    await assert.rejects(failing, /no answer/);
    assert.deepEqual(await readStore(backend, base.store), before);
  });
});

Deno.test("the difficulty filter keeps what is neither easy nor hopeless, and resumes", () =>
  withFolder(async (folder) => {
    const filtered = { ...recipe, difficultyTries: 2, steps: 4 };
    await withRun({ recipe: filtered, judge: everyToken(2) }, async ({ options }) => {
      const at = { folder, fingerprint: "this run" };
      let rounds = 0;
      const isStopping = () => rounds >= 2;
      const onRound = () => void rounds++;
      assert.equal(await filterQuestions(options, { ...at, isStopping, onRound }), undefined);
      const found = await filterQuestions(options, at);
      const { examined, kept, tooEasy } = found!;
      assert.equal(examined, 12);
      assert.equal(kept.length + tooEasy + found!.tooHard, 12);
      assert.ok(kept.length > 0 && kept.length < 12, `${kept.length} kept`);
      const other = { folder: `${folder}/other`, fingerprint: "this run" };
      await Deno.mkdir(other.folder);
      assert.deepEqual(await filterQuestions(options, other), found);
      const driver = new ReinforcementDriver(options, { difficulty: found });
      const names = new Set(kept.map(({ source, index }) => `${source}/5/${index}`));
      const { difficulty, completions } = await driver.step();
      assert.equal(difficulty!.kept, kept.length);
      assert.ok(completions!.length > 0 && names.size > 0);
      const resumed = new ReinforcementDriver(options, { state: driver.state });
      assert.deepEqual(resumed.state, driver.state);
    });
  }));

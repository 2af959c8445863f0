/**
 * Reinforcement on the shipped model as a command: killed in the filter and in a step it goes on to
 * the same bits, whatever the number of threads.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readLog, type StepRecord } from "@/training/run_log.ts";
import { inTemporaryFolder } from "../temporary_folder.ts";

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const model = fileURLToPath(new URL("../../models/nano", import.meta.url));

const recipe = {
  kind: "reinforcement",
  trainable: ["decoder"],
  data: { seed: 9, mixture: { string: 1 } },
  optimizer: { peakRate: 1e-4, weightDecay: 0 },
  steps: 4,
  promptsPerStep: 3,
  answersPerPrompt: 4,
  updatesPerStep: 2,
  answerTokensMax: 10,
  overlongBufferTokens: 4,
  difficultyTries: 2,
  reward: { accuracy: 1, format: 0, thought: 0 },
  checkpoints: { everySteps: 2, kept: 4 },
};

function start(folder: string, ...flags: string[]): Deno.ChildProcess {
  const recipe = join(folder, "recipe.json");
  const args = ["run", "--allow-all", "--no-check", main, "train", recipe, "--model", model];
  const options = { stdout: "null", stderr: "inherit" } as const;
  return new Deno.Command(Deno.execPath(), { args: [...args, ...flags], ...options }).spawn();
}

/** Kills a run as soon as the condition holds. */
async function killWhen(child: Deno.ChildProcess, holds: () => Promise<boolean>): Promise<void> {
  while (!await holds()) await new Promise((resolve) => setTimeout(resolve, 10));
  child.kill("SIGKILL");
  await child.status;
}

const exists = (path: string) => Deno.stat(path).then(() => true, () => false);

/** All but times. */
const timeless = (records: readonly StepRecord[]) =>
  records.map((record) =>
    Object.fromEntries(Object.entries(record).filter(([name]) => !/econd/.test(name)))
  );

Deno.test("train of a reinforcement recipe survives kill -9 bit for bit", () =>
  inTemporaryFolder(async (folder) => {
    await Deno.writeTextFile(join(folder, "recipe.json"), JSON.stringify(recipe));
    const [whole, killed] = [join(folder, "whole"), join(folder, "killed")];
    assert.ok((await start(folder, "--out", whole, "--threads", "2").status).success);
    const again = () => start(folder, "--out", killed, "--threads", "1", "--resume");
    await killWhen(again(), () => exists(join(killed, "difficulty.json")));
    assert.equal((await readLog(killed)).length, 0);
    await killWhen(again(), async () => (await readLog(killed)).length >= 3);
    assert.ok((await again().status).success);
    const [expected, actual] = [await readLog(whole), await readLog(killed)];
    assert.equal(expected.length, 4);
    assert.equal(expected[0]!.difficulty!.examined, 12);
    assert.ok(expected.some(({ updates }) => updates === 2), "something was learnt");
    assert.deepEqual(timeless(actual), timeless(expected));
    for (const name of ["model.safetensors", "training/moments.safetensors"]) {
      const [left, right] = [whole, killed].map((out) =>
        Deno.readFileSync(join(out, "checkpoint-00000004", name))
      );
      assert.deepEqual(left, right, name);
    }
  }));

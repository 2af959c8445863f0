/**
 * A run that is killed and goes on equals one that was not, bit for bit, whatever the number of
 * threads; a run that is asked to end saves first.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { StepRecord } from "@/training/training_run.ts";
import { inTemporaryFolder } from "../temporary_folder.ts";

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const model = fileURLToPath(new URL("../fixtures/model/moe", import.meta.url));

const recipe = {
  model,
  steps: 200,
  data: { sources: [{ maker: "talk" }, { maker: "digit", weight: 0.5 }], batchTokens: 256 },
  optimizer: { rate: 1e-3, warmupSteps: 10 },
  checkpointSteps: 100,
};

function start(folder: string, ...flags: string[]): Deno.ChildProcess {
  const args = ["run", "--allow-all", "--no-check", main, "train", join(folder, "recipe.json")];
  const options = { stdout: "null", stderr: "inherit" } as const;
  return new Deno.Command(Deno.execPath(), { args: [...args, ...flags], ...options }).spawn();
}

async function log(out: string): Promise<StepRecord[]> {
  const text = await Deno.readTextFile(join(out, "log.jsonl")).catch(() => "");
  return text.split("\n").slice(0, -1).map((line) => JSON.parse(line) as StepRecord);
}

async function untilStep(out: string, step: number): Promise<void> {
  while (((await log(out)).at(-1)?.step ?? 0) < step) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** What must be equal of a step: no times. */
const figures = ({ step, loss, gradientNorm, entropy, balance, rate }: StepRecord) => ({
  step,
  loss,
  gradientNorm,
  entropy,
  balance,
  rate,
});

const withRecipe = (run: (folder: string) => Promise<void>) =>
  inTemporaryFolder(async (folder) => {
    await Deno.writeTextFile(join(folder, "recipe.json"), JSON.stringify(recipe));
    await run(folder);
  });

Deno.test("train equals 100 steps, kill -9 and 100 more, with one thread and with two", () =>
  withRecipe(async (folder) => {
    const [whole, killed] = [join(folder, "whole"), join(folder, "killed")];
    const { success } = await start(folder, "--out", whole, "--threads", "2").status;
    assert.ok(success);
    const victim = start(folder, "--out", killed, "--threads", "1");
    await untilStep(killed, 113);
    victim.kill("SIGKILL");
    await victim.status;
    const unsaved = (await log(killed)).at(-1)!.step;
    assert.ok(unsaved > 100 && unsaved < 200, `killed after step ${unsaved}`);
    const resumed = await start(folder, "--out", killed, "--threads", "1", "--resume").status;
    assert.ok(resumed.success);
    const [expected, actual] = [await log(whole), await log(killed)];
    assert.equal(expected.length, 200);
    assert.ok(expected[199]!.loss < expected[0]!.loss);
    assert.deepEqual(actual.map(figures), expected.map(figures));
    for (const name of ["model.safetensors", "optimizer.safetensors", "training_state.json"]) {
      const [left, right] = await Promise.all(
        [whole, killed].map((out) => Deno.readFile(join(out, "checkpoint-00000200", name))),
      );
      assert.deepEqual(left, right, name);
    }
  }));

Deno.test("train saves and ends when it gets SIGTERM, and refuses to start over it", () =>
  withRecipe(async (folder) => {
    const out = join(folder, "run");
    const child = start(folder, "--out", out, "--threads", "1");
    await untilStep(out, 5);
    child.kill("SIGTERM");
    const { success } = await child.status;
    assert.ok(success);
    const { step } = (await log(out)).at(-1)!;
    assert.ok(step >= 5 && step < 100);
    const name = `checkpoint-${String(step).padStart(8, "0")}`;
    await Deno.stat(join(out, name, "training_state.json"));
    const again = await start(folder, "--out", out).status;
    assert.equal(again.code, 2);
  }));

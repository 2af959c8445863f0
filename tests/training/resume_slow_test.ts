/**
 * A run that is killed and goes on equals one that was not, bit for bit, whatever the number of
 * threads; a run that is asked to end saves first.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkpointFolder, checkpointSteps } from "@/training/run_checkpoint.ts";
import type { StepRecord } from "@/training/run_log.ts";
import { inTemporaryFolder } from "../temporary_folder.ts";

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const model = fileURLToPath(new URL("../fixtures/model/moe", import.meta.url));

/** AdaLRS and the curriculum are active; the run is killed in the middle of a probe. */
const recipe = {
  steps: 200,
  data: {
    mixture: { talk: 1, digit: 0.5 },
    curriculum: { threshold: 0.1, window: 8, tasks: ["digit"] },
  },
  optimizer: { peakRate: 1e-3 },
  schedule: { kind: "cosine", warmupSteps: 10, endFactor: 0.1 },
  packing: { tokensMax: 256, packsTogether: 1, bufferSamples: 64 },
  adaptiveRate: { windowSteps: 20, searchFrom: 0.1, searchTo: 0.9 },
  checkpoints: { everySteps: 50, kept: 8 },
};

function start(folder: string, ...flags: string[]): Deno.ChildProcess {
  const recipe = join(folder, "recipe.json");
  const args = ["run", "--allow-all", "--no-check", main, "train", recipe, "--model", model];
  const options = { stdout: "null", stderr: "inherit" } as const;
  return new Deno.Command(Deno.execPath(), { args: [...args, ...flags], ...options }).spawn();
}

async function log(out: string): Promise<StepRecord[]> {
  const text = await Deno.readTextFile(join(out, "log.jsonl")).catch(() => "");
  return text.split("\n").slice(0, -1).map((line) => JSON.parse(line) as StepRecord);
}

async function untilComputed(out: string, steps: number): Promise<void> {
  while (((await log(out)).at(-1)?.computed ?? 0) < steps) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** What must be equal of a step: all but times. */
function figures(record: StepRecord): Partial<StepRecord> {
  const { seconds: _, rowsPerSecond: __, secondsLeft: ___, ...rest } = record;
  return rest;
}

const newest = async (out: string) => checkpointFolder(out, (await checkpointSteps(out)).at(-1)!);

const withRecipe = (run: (folder: string) => Promise<void>) =>
  inTemporaryFolder(async (folder) => {
    await Deno.writeTextFile(join(folder, "recipe.json"), JSON.stringify(recipe));
    await run(folder);
  });

Deno.test("train equals half, kill -9 in a probe and the rest, with one thread and with two", () =>
  withRecipe(async (folder) => {
    const [whole, killed] = [join(folder, "whole"), join(folder, "killed")];
    const { success } = await start(folder, "--out", whole, "--threads", "2").status;
    assert.ok(success);
    const victim = start(folder, "--out", killed, "--threads", "1");
    await untilComputed(killed, 53);
    victim.kill("SIGKILL");
    await victim.status;
    assert.deepEqual(await checkpointSteps(killed), [50]);
    await Deno.stat(join(await newest(killed), "training", "probe.safetensors"));
    const resumed = await start(folder, "--out", killed, "--threads", "1", "--resume").status;
    assert.ok(resumed.success);
    const [expected, actual] = [await log(whole), await log(killed)];
    assert.equal(expected.at(-1)!.step, 200);
    assert.ok(expected.at(-1)!.loss < expected[0]!.loss);
    const decisions = expected.map(({ decision }) => decision?.kind).filter(Boolean);
    assert.ok(decisions.length > 3, `${decisions}`);
    assert.ok(expected.at(-1)!.level! > 0, "the curriculum moved on");
    assert.deepEqual(actual.map(figures), expected.map(figures));
    for (
      const name of ["model.safetensors", "training/moments.safetensors", "training/state.json"]
    ) {
      const [left, right] = await Promise.all(
        [whole, killed].map(async (out) => Deno.readFile(join(await newest(out), name))),
      );
      assert.deepEqual(left, right, name);
    }
  }));

Deno.test("train saves and ends when it gets SIGTERM, and refuses to start over it", () =>
  withRecipe(async (folder) => {
    const out = join(folder, "run");
    const child = start(folder, "--out", out, "--threads", "1");
    await untilComputed(out, 5);
    child.kill("SIGTERM");
    const { success } = await child.status;
    assert.ok(success);
    const { step } = (await log(out)).at(-1)!;
    assert.ok(step >= 5 && step < 50);
    assert.deepEqual(await checkpointSteps(out), [step]);
    await Deno.stat(join(await newest(out), "training", "state.json"));
    const again = await start(folder, "--out", out).status;
    assert.equal(again.code, 2);
  }));

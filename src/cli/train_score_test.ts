import assert from "node:assert/strict";
import { parseFlags } from "./flags.ts";
import { score } from "./train_score.ts";

const model = new URL("../../tests/fixtures/model/dense", import.meta.url).pathname;

Deno.test("train score names what is missing or wrong", async () => {
  const run = (...args: string[]) => {
    const flags = parseFlags("train", ["score", ...args]);
    return score(flags, flags.positionals.slice(1));
  };
  await assert.rejects(run(), /Say which model/);
  await assert.rejects(run("--model", model, model), /Say which model, once/);
  await assert.rejects(run("--task", "word=0", model), /expected NAME or NAME=COUNT/);
  await assert.rejects(run("--task", "wurd", model), /Unknown task "wurd"/);
  await assert.rejects(run("--task", "word", "/nowhere"), /no such folder/);
});

import assert from "node:assert/strict";
import { join } from "node:path";
import { pipelineRuns } from "../recipes/recipe_book.ts";
import { runPipeline, type RunWorkers } from "./pipeline.ts";

const runs = pipelineRuns();

/** Workers that note what they were asked for; `die` throws at a run, as a kill would. */
function notingWorkers(notes: string[], die?: string): RunWorkers {
  const short = (folder: string) => folder.split("/").slice(-2).join("/");
  return {
    prepare: ({ modelFolder }) => Promise.resolve(modelFolder),
    train({ id, modelFolder, folder }) {
      if (id === die) return Promise.reject(new Error("killed"));
      notes.push(`${id} on ${short(modelFolder)}`);
      return Promise.resolve(join(folder, "model"));
    },
    mix({ recipe, members, folder }) {
      notes.push(`${recipe.name} of ${members.map(short).join(" and ")}`);
      return Promise.resolve(join(folder, "model"));
    },
  };
}

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  await run(folder);
  await Deno.remove(folder, { recursive: true });
}

Deno.test("runPipeline() builds each run on the one it needs, also after it was killed", () =>
  inFolder(async (folder) => {
    const options = { runs, folder, start: "a/random" };
    const notes: string[] = [];
    await assert.rejects(
      runPipeline({ ...options, workers: notingWorkers(notes, "sft_hard") }),
      /killed/,
    );
    const begun = notes.length;
    assert.equal(notes[0], `${runs[0]!.id} on a/random`);
    assert.ok(notes[begun - 1]!.startsWith("sft_instruction on sft_basic/"));
    const last = await runPipeline({ ...options, workers: notingWorkers(notes) });
    assert.equal(notes.length, runs.length, "no run was done twice");
    assert.ok(notes.includes("model_soup of sft_video/model and sft_video_134/model"));
    assert.ok(notes.includes("long_cot on model_soup/model"));
    assert.equal(last, join(folder, runs.at(-1)!.id, "model"));
    assert.equal(await runPipeline({ ...options, workers: notingWorkers(notes) }), last);
    assert.equal(notes.length, runs.length);
  }));

Deno.test("runPipeline() takes a part of the runs, and stops where a run was stopped", () =>
  inFolder(async (folder) => {
    const notes: string[] = [];
    const workers = notingWorkers(notes);
    const part = { from: "sft_hard", until: "model_soup" };
    await runPipeline({ runs, folder, start: "b/nano", workers, ...part });
    assert.deepEqual(notes, [
      "sft_hard on b/nano",
      "sft_video on sft_hard/model",
      "sft_video_134 on sft_hard/model",
      "model_soup of sft_video/model and sft_video_134/model",
    ]);
    const on = { runs, folder, start: "b/nano", workers, buildsOnEarlier: true };
    await runPipeline({ ...on, from: "long_cot", until: "long_cot" });
    assert.equal(notes.at(-1), "long_cot on model_soup/model");
    const early = runPipeline({ ...on, from: "mixed_reward" });
    await assert.rejects(early, /Cannot begin with mixed_reward: .* has no finished think_fusion/);
    await Deno.remove(join(folder, "long_cot"), { recursive: true });
    const stopped = { ...workers, train: () => Promise.resolve(undefined) };
    const rest = { runs, folder, start: "b/nano", from: "long_cot" };
    assert.equal(await runPipeline({ ...rest, workers: stopped }), undefined);
    await assert.rejects(
      runPipeline({ ...rest, workers, from: "nope" }),
      /Unknown stage "nope", expected one of vit_warmup/,
    );
  }));

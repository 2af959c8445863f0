import assert from "node:assert/strict";
import { parseRecipe, rateSchedule, supervisedRecipe, withSteps } from "./recipe.ts";
import { nextRun, pipelineRuns, recipeBook, shippedRecipe } from "./recipe_book.ts";

Deno.test("every shipped recipe is valid, also as JSON, under its own name", () => {
  for (const recipe of recipeBook) {
    assert.deepEqual(parseRecipe(JSON.parse(JSON.stringify(recipe))), recipe, recipe.name);
  }
  assert.equal(new Set(recipeBook.map(({ name }) => name)).size, recipeBook.length);
  const seeds = recipeBook.flatMap((recipe) => recipe.kind === "soup" ? [] : [recipe.data.seed]);
  assert.equal(new Set(seeds).size, seeds.length, "no stage repeats another's data");
});

Deno.test("the stages follow the report: what learns, where AdaLRS runs, what is mixed", () => {
  const trainable = (name: string) => {
    const recipe = shippedRecipe(name);
    return recipe.kind === "soup" ? [] : recipe.trainable;
  };
  assert.deepEqual(trainable("vit_warmup"), ["adapter"]);
  assert.deepEqual(trainable("fine_grained"), ["vision", "adapter"]);
  assert.deepEqual(trainable("multi_task"), ["vision", "adapter", "decoder"]);
  const adaptive = recipeBook.filter((recipe) =>
    recipe.kind === "supervised" && recipe.adaptiveRate !== undefined
  );
  assert.deepEqual(adaptive.map(({ name }) => name), ["basic_pretraining"]);
  const fusion = shippedRecipe("think_fusion");
  assert.ok(fusion.kind === "supervised");
  const { mixture, thinkingShare } = fusion.data;
  const total = Object.values(mixture).reduce((a, b) => a! + b!, 0)!;
  const thoughts = (mixture["arithmetic"]! + mixture["word_problem"]!) / total * thinkingShare;
  assert.ok(Math.abs(thoughts - 0.1) < 0.03, `${thoughts} of all samples think`);
});

Deno.test("parseRecipe() names every wrong field", () => {
  const recipe = structuredClone(shippedRecipe("rlvr")) as Record<string, unknown>;
  const wrong = (change: Record<string, unknown>, message: RegExp) =>
    assert.throws(() => parseRecipe({ ...recipe, ...change }), message);
  wrong({ steps: 0 }, /Cannot use recipe: steps: /);
  wrong(
    { steps: 0, clips: 1, optimizer: { peakRate: -1 } },
    /optimizer\.peakRate: .*; steps: .*clips/,
  );
  wrong({ reward: { accuracy: 0.9, format: 0.2, thought: 0 } }, /reward: weights .* sum to 1/);
  wrong({ clips: 1 }, /Unrecognized key/);
  wrong({ kind: "magic" }, /Cannot use recipe: kind: /);
  wrong({ data: { ...recipe["data"] as object, mixture: { word: 0 } } }, /data\.mixture: is empty/);
  const files = [{ path: "a.jsonl" }];
  wrong({ data: { mixture: { word: 1 }, files } }, /data\.files: no rule can check their answers/);
  wrong({ data: { mixture: { wrd: 1 } } }, /data\.mixture.*wrd/);
  const schedule = { kind: "wsd", warmupSteps: 200, decaySteps: 200 };
  wrong({ schedule }, /schedule: 200 warm-up and 200 decay steps do not fit into 300 steps/);
  wrong({ lora: {} }, /trainable: the decoder learns as a whole and by lora/);
  const adaptive = { ...shippedRecipe("basic_pretraining"), adaptiveRate: { windowSteps: 400 } };
  assert.throws(() => parseRecipe(adaptive), /adaptiveRate\.windowSteps: two windows of 400 steps/);
  assert.throws(() => parseRecipe([]), /Cannot use recipe: Invalid input/);
  assert.throws(() => shippedRecipe("nope"), /expected one of vit_warmup, fine_grained/);
});

Deno.test("parseRecipe() fills in what a file need not say", () => {
  const least = { steps: 10, data: { mixture: { word: 1 } }, optimizer: { peakRate: 1e-3 } };
  const recipe = parseRecipe(least, { name: "mine" });
  assert.deepEqual(
    recipe,
    supervisedRecipe({
      ...least,
      name: "mine",
      purpose: "",
      trainable: ["vision", "adapter", "decoder"],
    }),
  );
  assert.ok(recipe.kind === "supervised" && recipe.lossReduction === "token");
  assert.throws(() => parseRecipe(least), /Cannot use recipe: name: /);
  const low = parseRecipe({ ...least, lora: { rank: 4 } }, { name: "mine" });
  assert.ok(low.kind === "supervised" && low.trainable.length === 0 && low.lora?.alpha === 16);
});

Deno.test("withSteps() keeps the parts of a schedule in proportion", () => {
  const recipe = shippedRecipe("fine_grained");
  assert.ok(recipe.kind === "supervised");
  const { schedule } = withSteps(recipe, 60);
  assert.deepEqual(schedule, { ...recipe.schedule, warmupSteps: 3, decaySteps: 6 });
  assert.deepEqual(rateSchedule(withSteps(recipe, 60)), { ...schedule, totalSteps: 60 });
});

Deno.test("pipelineRuns() orders all runs; nextRun() resumes after any of them", () => {
  const runs = pipelineRuns();
  assert.deepEqual(runs.find(({ id }) => id === "model_soup")!.needs, [
    "sft_video",
    "sft_video_134",
  ]);
  assert.deepEqual(runs.find(({ id }) => id === "sft_video_134")!.needs, ["sft_hard"]);
  assert.deepEqual(runs.find(({ id }) => id === "long_cot")!.needs, ["model_soup"]);
  const done = new Set<string>();
  for (let i = 0; i < runs.length; i++) {
    const next = nextRun(runs, new Set(JSON.parse(JSON.stringify([...done]))));
    assert.ok(next!.needs.every((need) => done.has(need)));
    done.add(next!.id);
  }
  assert.equal(nextRun(runs, done), undefined);
});

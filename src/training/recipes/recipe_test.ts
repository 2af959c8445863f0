import assert from "node:assert/strict";
import { parseRecipe } from "./recipe.ts";
import { parseRecipe as parseRun } from "../run_recipe.ts";
import { runFormOf } from "./run_form.ts";
import { nextRun, pipelineRuns, recipeBook, shippedRecipe } from "./recipe_book.ts";

Deno.test("every shipped recipe is valid, also as JSON, under its own name", () => {
  for (const recipe of recipeBook) {
    assert.deepEqual(parseRecipe(JSON.parse(JSON.stringify(recipe))), recipe, recipe.name);
    if (recipe.kind !== "soup" && recipe.schedule.kind !== "constant") {
      assert.equal(recipe.schedule.totalSteps, recipe.steps, recipe.name);
    }
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

Deno.test("parseRecipe() names the wrong field", () => {
  const recipe = structuredClone(shippedRecipe("rlvr")) as Record<string, unknown>;
  const wrong = (change: Record<string, unknown>, message: RegExp) =>
    assert.throws(() => parseRecipe({ ...recipe, ...change }), message);
  wrong({ steps: 0 }, /Cannot use recipe: steps: /);
  wrong({ reward: { accuracy: 0.9, format: 0.2, thought: 0 } }, /sum to 1/);
  wrong({ clips: 1 }, /Unrecognized key/);
  wrong({ kind: "magic" }, /Cannot use recipe: kind: /);
  wrong({ data: { ...recipe["data"] as object, mixture: { word: 0 } } }, /empty mixture/);
  assert.throws(() => shippedRecipe("nope"), /expected one of vit_warmup, fine_grained/);
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

Deno.test("runFormOf() gives what the runner takes, and says what it leaves out", () => {
  for (const stage of recipeBook) {
    if (stage.kind !== "supervised") {
      assert.throws(() => runFormOf(stage, "m"), /as one training run: it is of kind/);
      continue;
    }
    const { recipe, omitted } = runFormOf(stage, "m");
    const parsed = parseRun(JSON.stringify(recipe), stage.name);
    assert.deepEqual([parsed.steps, parsed.learns], [stage.steps, stage.trainable]);
    assert.equal(omitted.some((part) => part.startsWith("AdaLRS")), "adaptiveRate" in stage);
  }
});

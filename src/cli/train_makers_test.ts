import assert from "node:assert/strict";
import { supervisedRecipe } from "@/training/recipes/recipe.ts";
import { parseFlags } from "./flags.ts";
import { makerSettings } from "./train_makers.ts";

const recipe = supervisedRecipe({
  name: "easy",
  purpose: "",
  trainable: ["decoder"],
  data: { mixture: { word: 1 }, makers: { lengthMax: 3, newDesigns: 0.5 } },
  optimizer: { peakRate: 1e-4 },
  steps: 1,
});

Deno.test("makerSettings() has the recipe's difficulty, and what the flags say over it", () => {
  const of = (...args: string[]) => makerSettings(parseFlags("train", ["score", ...args]), recipe);
  assert.equal(makerSettings(parseFlags("train", ["score"])).lengthMax, 8);
  assert.equal(of().lengthMax, 3);
  assert.equal(of().newDesigns, 0.5);
  assert.equal(of("--held-out").lengthMax, 3);
  assert.equal(of("--held-out").newDesigns, 0);
  assert.equal(of("--side", "112").side, 112);
});

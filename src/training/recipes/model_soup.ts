/** Model soup of homogeneous SFT runs. The report: plain averages of runs with similar data. */
import { soupRecipe } from "./recipe.ts";

export const modelSoup = soupRecipe({
  name: "model_soup",
  purpose: "Averages runs of the last SFT stage that differ by their seed",
  stage: "sft_video",
  seeds: [34, 134],
  method: "greedy",
});

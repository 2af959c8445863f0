/** What a stage's recipe says about its samples. */
import assert from "node:assert/strict";
import { parseRecipe } from "./recipes/recipe.ts";
import { StageSamples } from "./stage_samples.ts";

function samplesOf(data: Record<string, unknown>): StageSamples {
  const { data: parsed } = parseRecipe({
    name: "test",
    steps: 1,
    data: { seed: 7, mixture: { text_sum: 1 }, thinkingShare: 0.5, ...data },
    optimizer: { peakRate: 1 },
  }) as { data: ConstructorParameters<typeof StageSamples>[0] };
  return new StageSamples(parsed);
}

const drawn = (samples: StageSamples, count: number) =>
  Array.from({ length: count }, (_, index) => {
    const { sample, thinking } = samples.make({ source: "text_sum", index, level: 0 });
    return `${sample.id} ${thinking} ${sample.turns[0]!.question}`;
  });

Deno.test("a stage of few distinct samples draws them again in their order, thoughts too", () => {
  const endless = drawn(samplesOf({}), 40);
  assert.equal(new Set(endless).size, 40);
  const first = endless.slice(0, 16);
  assert.deepEqual(
    drawn(samplesOf({ distinctSamples: 16 }), 40),
    [...first, ...first, ...first.slice(0, 8)],
  );
});

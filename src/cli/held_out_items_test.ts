import assert from "node:assert/strict";
import { digitSamples, itemSamples } from "./held_out_items.ts";

const pathOf = (path: string) => new URL(`../../${path}`, import.meta.url).pathname;

const digits = pathOf("models/nano/held_out/digits.bin");

Deno.test("the digits are scikit-learn's 1,797", async () => {
  const bytes = await Deno.readFile(digits);
  const labels = bytes.filter((_, at) => at % 65 === 0);
  assert.equal(labels.length, 1797);
  const counts = Array.from(
    { length: 10 },
    (_, digit) => labels.filter((label) => label === digit).length,
  );
  // As scikit-learn counts them.
  assert.deepEqual(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
});

Deno.test("digitSamples() are dark on white", async () => {
  const { value } = await digitSamples(digits).next();
  const { width, height, data } = value!.pictures[0];
  assert.equal(value!.turns[0].answer, "0");
  assert.deepEqual([width, height], [224, 224]);
  const grey = (x: number, y: number) => data[(y * width + x) * 3]!;
  assert.equal(grey(2, 2), 255);
  assert.ok(grey(112, 40) < 160 && grey(112, 112) > 230, "ink around an empty middle");
});

Deno.test("itemSamples() decodes pictures of the second renderer", async () => {
  const samples = [];
  for await (const sample of itemSamples(pathOf("tests/fixtures/nano/held_out.jsonl"))) {
    samples.push(sample);
  }
  assert.equal(samples.length, 150);
  assert.deepEqual([...new Set(samples.map(({ task }) => task))].sort(), [
    "colour",
    "count",
    "number",
    "place",
    "shape",
    "word",
  ]);
  const [picture] = samples[0]!.pictures;
  assert.equal(picture!.data.length, 3 * picture!.width * picture!.height);
});

import assert from "node:assert/strict";
import { join } from "node:path";
import { encodePng } from "@/data/drawing/png.ts";
import { inlineCodec } from "@/media/codec.ts";
import { DataFile, parseRow } from "./data_file.ts";
import { rowOf } from "./handover/rows.ts";
import { StageSamples } from "./stage_samples.ts";
import { parseRecipe } from "./recipes/recipe.ts";

const row = (messages: [string, string][], images?: string[]) =>
  JSON.stringify({
    messages: messages.map(([role, content]) => ({ role, content })),
    ...images && { images },
    channel: "ignored",
  });

Deno.test("parseRow() reads turns, system text, pictures and thoughts", () => {
  const plain = parseRow(
    row([["system", "Be brief."], ["user", "<image>\nWhat?"], ["assistant", "A cat"]], ["a.png"]),
    "x",
  );
  assert.deepEqual(plain, {
    systemText: "Be brief.",
    turns: [{ question: "What?", answer: "A cat" }],
    thinking: false,
    images: ["a.png"],
  });
  const thought = parseRow(
    row([["user", "2+2?"], ["assistant", "<think>2+2=4</think>\\boxed{4}"]]),
    "x",
  );
  assert.deepEqual([thought.thinking, thought.turns[0]!.thought, thought.turns[0]!.answer], [
    true,
    "2+2=4",
    "4",
  ]);
});

Deno.test("parseRow() names what is wrong where", () => {
  const wrong = (line: string, message: RegExp) =>
    assert.throws(() => parseRow(line, "f:3"), message);
  wrong("{", /Cannot use f:3: it is not JSON/);
  wrong("{}", /Cannot use f:3: messages: /);
  wrong(row([["user", "a"], ["user", "b"]]), /do not alternate/);
  wrong(row([["system", "a"], ["user", "b"]]), /do not alternate/);
  wrong(row([["user", "<image><image>a"], ["assistant", "b"]], ["x"]), /2 <image> for 1 images/);
  const late = row([["user", "a"], ["assistant", "b"], ["user", "<image>"], ["assistant", "c"]]);
  wrong(late, /after the first question/);
});

Deno.test("DataFile reads back what `train export` writes, pixels and all", async () => {
  const folder = await Deno.makeTempDir();
  const recipe = parseRecipe({
    name: "test",
    steps: 1,
    data: { mixture: { word: 1 }, makers: { side: 64 } },
    optimizer: { peakRate: 1 },
  });
  assert.ok(recipe.kind === "supervised");
  const { sample } = new StageSamples(recipe.data).make({ source: "word", index: 2, level: 0 });
  await Deno.writeFile(join(folder, "0.png"), encodePng(sample.pictures[0]!));
  const options = {
    purpose: "sft",
    thinking: false,
    systemText: "s",
    pictures: ["0.png"],
  } as const;
  const line = JSON.stringify(rowOf(sample, { engine: "ms-swift", ...options }));
  const path = join(folder, "rows.jsonl");
  await Deno.writeTextFile(path, `${line}\n\n${line}\n`);
  const file = await DataFile.open(path, inlineCodec());
  assert.deepEqual([file.name, file.size], ["rows.jsonl", 2]);
  const read = await file.read(1);
  assert.deepEqual(read.sample.pictures[0]!.data, sample.pictures[0]!.data);
  assert.deepEqual(
    read.sample.turns.map(({ answer }) => answer),
    sample.turns.map((t) => t.answer),
  );
  assert.equal(read.systemText, "s");
  await Deno.remove(join(folder, "0.png"));
  await assert.rejects(file.read(0), /Cannot read .*0\.png of rows\.jsonl/);
  await Deno.writeTextFile(path, "\n");
  await assert.rejects(DataFile.open(path, inlineCodec()), /it is empty/);
  await Deno.writeTextFile(path, `${line}\nnot`);
  await assert.rejects(DataFile.open(path, inlineCodec()), /rows\.jsonl:2: it is not JSON/);
  await Deno.remove(folder, { recursive: true });
});

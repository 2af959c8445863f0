import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { CardScore } from "@/training/pipeline/model_card.ts";
import { makeNano } from "./make_nano.ts";

const nano = fileURLToPath(new URL("../../models/nano", import.meta.url));

Deno.test("makeNano() --score writes every condition's scores and the card's table", async () => {
  const folder = await Deno.makeTempDir();
  try {
    for await (const { name, isFile } of Deno.readDir(nano)) {
      if (isFile) await Deno.copyFile(join(nano, name), join(folder, name));
    }
    await makeNano(["--score", folder, "--count", "1", "--threads", "1"]);
    const scores = JSON.parse(await Deno.readTextFile(join(folder, "scores.json"))) as CardScore[];
    const of = (condition: string) => scores.filter((score) => score.condition === condition);
    assert.equal(of("makers, new words and typefaces").length, 16);
    assert.equal(of("the same, thinking").length, 4);
    assert.equal(of("handwriting of people").length, 1);
    assert(scores.every(({ count, right }) => count === 1 && right <= 1));
    const card = await Deno.readTextFile(join(folder, "README.md"));
    assert.match(card, /\| two_lines \| \d+\.0 % \(n 1\) \|/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("makeNano() names a count that is none", async () => {
  await assert.rejects(makeNano(["--score", nano, "--count", "many"]), /--count is "many"/);
});

/**
 * A model over shards says exactly what it says alone: the same tokens, the same bits.
 */
import assert from "node:assert/strict";
import type { Quantisation } from "@/weights/precision.ts";
import { FrontRig } from "./front_rig.ts";
import { ShardProcess } from "./shard_process.ts";

const prompts = ["what is on the table", "count the birds ".repeat(12)];

async function answers(rig: FrontRig) {
  // At the same time: rows of both share steps and frames.
  return await Promise.all(prompts.map((prompt) => rig.answer(prompt)));
}

const rows: readonly [Quantisation, readonly number[]][] = [
  ["none", [1, 2, 4]],
  ["q8", [2]],
  ["q4", [1, 8]],
];

for (const [quantisation, counts] of rows) {
  Deno.test(`${counts} shards give the bits of a single process in ${quantisation}`, async () => {
    const alone = await (async () => {
      await using rig = await FrontRig.open({ quantisation });
      return await answers(rig);
    })();
    await using stack = new AsyncDisposableStack();
    const args = quantisation === "none" ? [] : ["--quant", quantisation];
    const names = [..."abcdefgh"].slice(0, Math.max(...counts));
    const shards = await Promise.all(names.map((name) => ShardProcess.start(name, args)));
    for (const shard of shards) stack.use(shard);
    for (const count of counts) {
      const addresses = shards.slice(0, count).map(({ address }) => address);
      await using rig = await FrontRig.open({ quantisation, addresses });
      await rig.covered();
      assert.deepEqual(await answers(rig), alone, `${count} shards`);
    }
  });
}

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

for (const quantisation of ["none", "q8", "q4"] satisfies Quantisation[]) {
  Deno.test(`1, 2 and 4 shards give the bits of a single process in ${quantisation}`, async () => {
    const alone = await (async () => {
      await using rig = await FrontRig.open({ quantisation });
      return await answers(rig);
    })();
    await using stack = new AsyncDisposableStack();
    const shards: ShardProcess[] = [];
    for (const name of ["a", "b", "c", "d"]) {
      const args = quantisation === "none" ? [] : ["--quant", quantisation];
      shards.push(stack.use(await ShardProcess.start(name, args)));
    }
    for (const count of [1, 2, 4]) {
      const addresses = shards.slice(0, count).map(({ address }) => address);
      await using rig = await FrontRig.open({ quantisation, addresses });
      await rig.covered();
      assert.deepEqual(await answers(rig), alone, `${count} shards`);
    }
  });
}

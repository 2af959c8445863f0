/** The runbook's rolling restart: every shard stops and comes back while answers run. */
import assert from "node:assert/strict";
import { eventually } from "../patience.ts";
import { addressesOf, answersDuring, startFront, statusOf } from "./operator_rig.ts";
import { ShardProcess } from "./shard_process.ts";

Deno.test("a rolling restart of all shards fails no request and changes no token", async () => {
  await using stack = new AsyncDisposableStack();
  const shards: ShardProcess[] = [];
  for (const name of ["anna", "bert", "carl"]) {
    shards.push(stack.use(await ShardProcess.start(name)));
  }
  const front = stack.use(await startFront(addressesOf(shards), ["--replicas", "2"]));
  await answersDuring(front, async () => {
    for (const [i, name] of ["anna", "bert", "carl"].entries()) {
      const { address } = shards[i]!;
      shards[i]!.signal("SIGTERM");
      assert.equal((await shards[i]!.status()).code, 0, `${name} leaves in order`);
      stack.use(await ShardProcess.start(name, ["--listen", address]));
      await eventually(`${name} has experts again`, async () => {
        const { nodes, under_replicated: few } = await statusOf(front);
        return few === 0 && nodes.some(({ id, held }) => id === name && held > 0);
      });
    }
  });
  const { calls, uncovered } = await statusOf(front);
  assert.deepEqual([calls.failures, uncovered], [0, 0]);
});

/** Four real shards share skewed traffic evenly after a rebalance, and calls reach fewer of them. */
import assert from "node:assert/strict";
import { runBalance } from "./balance_trial.ts";

const BALANCE_MAX = 1.1;

Deno.test("four shards share skewed traffic evenly, and calls reach fewer than by least load", async () => {
  const traffic = { seconds: 4, throttleMs: 0, streams: 1 };
  const options = { replicas: 2, ...traffic, balanceMax: BALANCE_MAX };
  const { after } = await runBalance(options);
  const text = JSON.stringify(after);
  assert.ok(after.balance <= BALANCE_MAX, text);
  assert.ok(after.plannedBalance <= BALANCE_MAX, text);
  assert.ok(after.fanOut <= 0.9 * after.leastLoadFanOut, text);
});

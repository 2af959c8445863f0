/** One of four shards is slower than the others: it gets less, and the work is even all the same. */
import assert from "node:assert/strict";
import { runBalance } from "./balance_trial.ts";

Deno.test("a shard that stands still half of the time gets less of skewed traffic", async () => {
  const { after } = await runBalance({ replicas: 1, seconds: 25, throttleMs: 10, streams: 1 });
  const text = JSON.stringify(after);
  assert.ok(after.balance <= 1.1, text);
  assert.ok(after.rows[0]! < Math.min(...after.rows.slice(1)), text);
});

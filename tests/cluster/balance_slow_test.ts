/** One of four shards is slower than the others: it gets less, and the work is even all the same. */
import assert from "node:assert/strict";
import { runBalance } from "./balance_trial.ts";

/** Nine tenths of the time: a shard measures its computing, and few stops fall into that. */
const STOPPED_MS = 18;
/** Calls of more than one row, which compute for longer. */
const STREAMS = 2;
const BALANCE_MAX = 1.1;

Deno.test("a shard that mostly stands still gets less of skewed traffic", async () => {
  const traffic = { seconds: 25, throttleMs: STOPPED_MS, streams: STREAMS };
  const options = { replicas: 1, ...traffic, balanceMax: BALANCE_MAX };
  const { after } = await runBalance(options);
  const text = JSON.stringify(after);
  assert.ok(after.balance <= BALANCE_MAX, text);
  assert.ok(after.rows[0]! < Math.min(...after.rows.slice(1)), text);
});

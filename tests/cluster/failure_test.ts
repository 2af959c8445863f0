/**
 * Shards that die or stand still in the middle of answers, and experts that nobody owns.
 */
import assert from "node:assert/strict";
import { eventually } from "../patience.ts";
import { FrontRig } from "./front_rig.ts";
import { ShardProcess } from "./shard_process.ts";

const PROMPT = "tell the story of the lamp";
const TOKENS = 160;

async function undisturbed() {
  await using rig = await FrontRig.open({ quantisation: "none" });
  return await rig.answer(PROMPT, TOKENS);
}

/** Starts an answer, and disturbs it when it has begun. */
async function disturbed(rig: FrontRig, disturb: () => void) {
  const { engine } = rig.serving;
  const begun = rig.stepped(20);
  const answer = rig.answer(PROMPT, TOKENS);
  await begun;
  assert.equal(engine.stats().runningSequences, 1, "the answer is still under way");
  disturb();
  return await answer;
}

Deno.test("an answer survives kill -9 of a shard with two replicas, token for token", async () => {
  const expected = await undisturbed();
  await using first = await ShardProcess.start("first");
  await using second = await ShardProcess.start("second");
  const addresses = [first.address, second.address];
  await using rig = await FrontRig.open({ quantisation: "none", addresses, replicas: 2 });
  await rig.covered();
  assert.deepEqual(await disturbed(rig, () => first.signal("SIGKILL")), expected);
  assert.deepEqual(await rig.answer(PROMPT, TOKENS), expected, "and so does the next one");
});

Deno.test("an answer survives SIGSTOP of a shard with two replicas", async () => {
  const expected = await undisturbed();
  await using first = await ShardProcess.start("first");
  await using second = await ShardProcess.start("second");
  const addresses = [first.address, second.address];
  await using rig = await FrontRig.open({ quantisation: "none", addresses, replicas: 2 });
  await rig.covered();
  assert.deepEqual(await disturbed(rig, () => first.signal("SIGSTOP")), expected);
  first.signal("SIGCONT");
});

Deno.test("without an owner requests get 503, and recover when a shard comes back", async () => {
  const expected = await undisturbed();
  const only = await ShardProcess.start("only");
  await using rig = await FrontRig.open({ quantisation: "none", addresses: [only.address] });
  await rig.covered();
  assert.deepEqual(await rig.answer(PROMPT, TOKENS), expected);
  await only[Symbol.asyncDispose]();
  await eventually("its loss is noticed", () => rig.serving.problem() !== undefined);
  const { status, body } = await rig.post(PROMPT, 4);
  assert.equal(status, 503);
  assert.match(JSON.stringify(body), /No live node owns expert 0 of layer 0/);
  await using again = await ShardProcess.start("only", ["--listen", only.address]);
  assert.equal(again.address, only.address);
  await rig.covered();
  assert.deepEqual(await rig.answer(PROMPT, TOKENS), expected);
});

Deno.test("experts without a shard are computed from disk when that is allowed", async () => {
  const expected = await undisturbed();
  const only = await ShardProcess.start("only");
  const addresses = [only.address];
  await using rig = await FrontRig.open({ quantisation: "none", addresses, fallback: true });
  assert.deepEqual(await rig.answer(PROMPT, TOKENS), expected, "before any plan");
  const after = await disturbed(rig, () => only.signal("SIGKILL"));
  assert.deepEqual(after, expected, "when the shard ends");
  await only[Symbol.asyncDispose]();
});

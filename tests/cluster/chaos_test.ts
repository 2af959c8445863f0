/** Sixteen answers at once while shards die, stand still and restart: nothing shows in any token. */
import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { isFlat, type MemorySample, runChaos } from "./chaos.ts";
import { FrontRig } from "./front_rig.ts";
import { ShardProcess } from "./shard_process.ts";
import { promptOf, stream } from "./stream_load.ts";

Deno.test("isFlat() passes over V8's rooms for new objects, and over nothing else", () => {
  const memory = (grown: (share: number) => Partial<MemorySample>) =>
    Array.from({ length: 16 }, (_, i): MemorySample => ({
      ...{ requests: i, rss: 170e6, young: 29e6, heap: 20e6, external: 3e6 },
      ...grown(i / 15),
    }));
  const step = (share: number) => share > 0.5 ? 25e6 : 0;
  assert.ok(isFlat(memory(() => ({}))));
  assert.ok(isFlat(memory((share) => ({ rss: 170e6 + step(share), young: 29e6 + step(share) }))));
  assert.ok(!isFlat(memory((share) => ({ rss: 170e6 + step(share) }))));
  assert.ok(!isFlat(memory((share) => ({ rss: 170e6 + 25e6 * share }))));
  assert.ok(!isFlat(memory((share) => ({ heap: 20e6 + 5e6 * share }))));
});

Deno.test("16 streams keep every token through kill -9, SIGSTOP and a restart with two copies", async () => {
  const options = { requests: 16, tokens: 40, streams: 16, shards: 3, seed: 5 };
  const report = await runChaos({ ...options, plan: ["kill", "stop", "restart"] });
  assert.deepEqual(report.errors, []);
  assert.equal(report.wrong, 0);
  assert.deepEqual(report.disturbed, { kill: 1, stop: 1, restart: 1 });
});

Deno.test("with one copy running streams get a typed error, and later ones their tokens", async () => {
  const tokens = 120;
  const request = { promptIds: promptOf(1), tokens };
  const expected = await (async () => {
    await using rig = await FrontRig.open({ quantisation: "none" });
    return (await stream(rig, request)).tokens;
  })();
  // Each knows its half only, else the other one would take over, on a fast machine before anybody
  // gives up.
  const [half, otherHalf] = [["--experts", "0-3"], ["--experts", "4-7"]];
  await using first = await ShardProcess.start("first", half);
  await using second = await ShardProcess.start("second", otherHalf);
  const addresses = [first.address, second.address];
  await using rig = await FrontRig.open({ quantisation: "none", addresses });
  await rig.covered();
  const begun = rig.stepped(10);
  const running = Array.from(
    { length: 16 },
    (_, i) => stream(rig, { promptIds: promptOf(i), tokens: 200 }),
  );
  const ends = Promise.allSettled(running);
  await begun;
  first.signal("SIGKILL");
  for (const end of await ends) {
    assert.ok(end.status === "rejected" && end.reason instanceof OperatingError);
    assert.equal(end.reason.code, "unavailable");
  }
  await using again = await ShardProcess.start("first", [
    ...["--listen", first.address, ...half!],
  ]);
  assert.equal(again.address, first.address);
  await rig.covered();
  assert.deepEqual((await stream(rig, request)).tokens, expected);
});

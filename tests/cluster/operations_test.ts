/** What an operator does with a running cluster, as commands: look, plan anew, drain, stop a shard. */
import assert from "node:assert/strict";
import { natsProbe, NatsServer } from "../nats_server.ts";
import { eventually } from "../patience.ts";
import { optionalTest } from "../skip.ts";
import { addressesOf, answersDuring, cluster, startFront, statusOf } from "./operator_rig.ts";
import { ShardProcess } from "./shard_process.ts";

Deno.test("an operator sees the cluster, drains a node and stops it without a failed request", async () => {
  await using stack = new AsyncDisposableStack();
  const shards: ShardProcess[] = [];
  for (const name of ["anna", "bert", "carl"]) {
    shards.push(stack.use(await ShardProcess.start(name)));
  }
  const front = stack.use(await startFront(addressesOf(shards)));
  const url = ["--url", front.url];
  const seen = await cluster("status", ...url);
  assert.equal(seen.code, 0, seen.error);
  assert.match(seen.out, /^serving\nepoch 1, /);
  assert.match(seen.out, /32 experts: 0 without owner, 16 with one, 0 with fewer than 1/);
  for (const name of ["anna", "bert", "carl"]) {
    assert.match(seen.out, new RegExp(`${name} +127\\.0\\.0\\.1:\\d+ +\\S+/none +ok `));
  }

  await answersDuring(front, async () => {
    const drained = await cluster("drain", "bert", ...url);
    assert.equal(drained.code, 0, drained.error + drained.out);
    assert.match(drained.out, /bert is empty: it can be stopped\n$/);
    const { nodes, epoch } = await statusOf(front);
    const bert = nodes.find(({ id }) => id === "bert")!;
    assert.deepEqual([bert.draining, bert.planned, bert.held, epoch > 1], [true, 0, 0, true]);
  });
  const again = await cluster("drain", "bert", "--cancel", ...url);
  assert.match(again.out, /bert takes experts again/);
  await answersDuring(front, async () => {
    const moved = await cluster("rebalance", ...url);
    assert.equal(moved.code, 0, moved.error + moved.out);
    // The planner may have moved experts back by itself before it was asked.
    assert.match(moved.out, /^(\d+ experts copied, \d+ dropped: epoch|Nothing moved: epoch [3-9])/);
    const { nodes } = await statusOf(front);
    assert.ok(nodes.find(({ id }) => id === "bert")!.planned > 0, "bert has experts again");
  });
  // A stop signal drains by itself.
  await answersDuring(front, async () => {
    shards[0]!.signal("SIGTERM");
    assert.equal((await shards[0]!.status()).code, 0);
  });
  const { nodes, calls, uncovered } = await statusOf(front);
  assert.deepEqual(nodes.map(({ id }) => id), ["bert", "carl"]);
  assert.deepEqual([calls.failures, uncovered], [0, 0]);
  assert.ok(calls.layers > 1000);
  await eventually(
    "nobody answers at anna's address",
    async () => (await statusOf(front)).silent.length > 0,
  );
  const retried = await front.metric("flotilla_cluster_layer_failures_total");
  assert.equal(retried, 0);
  assert.ok(await front.metric("flotilla_cluster_moves_total") > 32);
});

Deno.test("an operator is told what is wrong", async () => {
  await using only = await ShardProcess.start("only");
  await using stack = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir();
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  const keys = `${folder}/keys`;
  await Deno.writeTextFile(keys, "secret-key\n");
  const front = stack.use(await startFront(only.address, ["--api-key-file", keys]));
  const url = ["--url", front.url];
  const locked = await cluster("status", ...url);
  assert.equal(locked.code, 1);
  assert.match(locked.error, /refuses: Cannot authorise request/);
  const open = [...url, "--api-key-file", keys];
  const unknown = await cluster("drain", "nobody", ...open);
  assert.match(unknown.error, /No shard nobody is connected, only: only/);
  // Nobody else can take them: the experts stay where they are, and requests go on.
  const stuck = await cluster("drain", "only", "--wait-seconds", "2", ...open);
  assert.equal(stuck.code, 1);
  assert.match(stuck.out, /still has experts that no other node took/);
  const status = JSON.parse((await cluster("status", "--json", ...open)).out);
  assert.deepEqual([status.problem, status.nodes[0].held], [null, 32]);
  assert.match((await cluster("status", "--url", "http://127.0.0.1:9")).error, /Cannot reach/);
});

const natsTest = "two fronts that share shards through NATS take orders alike";
optionalTest({ name: natsTest, needs: [natsProbe] }, async () => {
  await using stack = new AsyncDisposableStack();
  const nats = stack.use(await NatsServer.start());
  const store = `nats://${nats.address}/operations`;
  for (const name of ["anna", "bert", "carl"]) {
    stack.use(await ShardProcess.start(name, ["--join", store]));
  }
  const older = stack.use(await startFront(store, ["--replicas", "2", "--name", "older"]));
  const newer = stack.use(await startFront(store, ["--replicas", "2", "--name", "newer"]));
  const status = await statusOf(newer);
  assert.deepEqual([status.front, status.planner, status.phase], ["newer", "older", "following"]);
  assert.equal(status.nodes.length, 3);
  // The front that does not plan passes orders on.
  await answersDuring(older, async () => {
    const drained = await cluster("drain", "carl", "--url", newer.url);
    assert.equal(drained.code, 0, drained.error + drained.out);
  });
  const { nodes, replicas, under_replicated: few } = await statusOf(older);
  assert.deepEqual(nodes.map(({ planned }) => planned), [32, 32, 0]);
  assert.deepEqual([replicas, few], [2, 0]);
  assert.equal((await cluster("drain", "carl", "--cancel", "--url", older.url)).code, 0);
  await answersDuring(newer, async () => {
    const moved = await cluster("rebalance", "--url", newer.url);
    assert.equal(moved.code, 0, moved.error + moved.out);
    assert.match(moved.out, /^(older planned anew: epoch|Nothing moved: epoch)/);
    const after = await statusOf(older);
    assert.ok(after.nodes[2]!.planned > 0, "carl has experts again");
  });
});

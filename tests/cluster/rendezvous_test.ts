/** The ways in which fronts and shards find each other, and what protects them. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { ClusterSecret } from "@/cluster/cluster_secret.ts";
import { parseNatsAddress } from "@/cluster/nats_address.ts";
import { freePort, natsProbe, NatsServer } from "../nats_server.ts";
import { eventually } from "../patience.ts";
import { optionalTest } from "../skip.ts";
import { FrontRig } from "./front_rig.ts";
import { ShardProcess } from "./shard_process.ts";

const PROMPT = "tell the story of the lamp";
const quantisation = "none";

async function alone() {
  await using rig = await FrontRig.open({ quantisation });
  return await rig.answer(PROMPT);
}

Deno.test("shards that join a server serve it, again after it restarts", async () => {
  const expected = await alone();
  const listen = `127.0.0.1:${freePort()}`;
  await using first = await ShardProcess.start("first", ["--join", listen]);
  await using second = await ShardProcess.start("second", ["--join", listen]);
  assert.notEqual(first.address, second.address);
  for (const name of ["before", "after"]) {
    await using rig = await FrontRig.open({ quantisation, cluster: { listen, name } });
    await rig.covered();
    await eventually("both came", () => rig.serving.cluster?.status().nodes.length === 2);
    assert.deepEqual(await rig.answer(PROMPT), expected);
  }
});

Deno.test("a server that holds all experts needs no shard, and uses those that are there", async () => {
  const expected = await alone();
  await using shard = await ShardProcess.start("shard");
  const cluster = { localExperts: "all" } as const;
  await using rig = await FrontRig.open({ quantisation, addresses: [shard.address], cluster });
  await rig.covered();
  assert.deepEqual(await rig.answer(PROMPT), expected);
  // A long prompt is shared, a token at a time stays here.
  let count = 0;
  await eventually("the shard is in use", async () => {
    await rig.answer(`${count++} ${"count the birds ".repeat(12)}`, 1);
    return rig.serving.cluster?.status().nodes[0]?.calls.results !== 0;
  });
  shard.signal("SIGKILL");
  await eventually("it is gone", () => rig.serving.cluster?.status().nodes.length === 0);
  assert.deepEqual(await rig.answer(PROMPT), expected);
});

Deno.test("nodes with certificates and a secret serve each other, without they are refused", async () => {
  const path = (name: string) =>
    fileURLToPath(new URL(`../fixtures/cluster/${name}`, import.meta.url));
  const text = (name: string) => Deno.readTextFileSync(path(name));
  const secretPath = await Deno.makeTempFile();
  try {
    const secret = "a secret that the whole test shares";
    await Deno.writeTextFile(secretPath, secret);
    await using shard = await ShardProcess.start("shard", [
      ...["--cluster-cert", path("server.pem"), "--cluster-key", path("server.key")],
      ...["--cluster-ca", path("authority.pem"), "--secret-file", secretPath],
    ]);
    const tls = {
      certificate: text("client.pem"),
      key: text("client.key"),
      authority: text("authority.pem"),
    };
    const addresses = [shard.address];
    {
      const cluster = { tls, secret: ClusterSecret.fromText(secret) };
      await using rig = await FrontRig.open({ quantisation, addresses, cluster });
      await rig.covered();
      assert.deepEqual(await rig.answer(PROMPT), await alone());
    }
    const cluster = { tls, secret: ClusterSecret.fromText("another secret of the same length") };
    await using rig = await FrontRig.open({ quantisation, addresses, cluster });
    await eventually("it is told", () => rig.serving.cluster?.status().silent.length === 1);
    assert.match(rig.serving.cluster!.status().silent[0]!.problem, /secret is another one/);
  } finally {
    await Deno.remove(secretPath);
  }
});

optionalTest({
  name: "servers and shards find each other through NATS, and one server plans after the other",
  needs: [natsProbe],
}, async () => {
  const expected = await alone();
  await using server = await NatsServer.start();
  const nats = parseNatsAddress(`nats://${server.address}`);
  const join = ["--join", `nats://${server.address}`];
  await using first = await ShardProcess.start("first", join);
  await using second = await ShardProcess.start("second", join);
  const open = (name: string) =>
    FrontRig.open({ quantisation, replicas: 2, cluster: { nats, name } });
  await using later = await (async () => {
    await using front = await open("one");
    await front.covered();
    const other = await open("two");
    await other.covered();
    const planned = () => [front, other].map((rig) => rig.serving.cluster!.status());
    await eventually(
      "all know all",
      () =>
        planned().every(({ nodes, planner, underReplicated }) =>
          nodes.length === 2 && planner === "one" && underReplicated === 0
        ),
    );
    assert.deepEqual(await Promise.all([front.answer(PROMPT), other.answer(PROMPT)]), [
      expected,
      expected,
    ]);
    return other;
  })();
  const status = () => later.serving.cluster!.status();
  await eventually("the other one plans", () => status().planner === "two");
  const { epoch } = status();
  // NATS away for longer than a lease: calls go on.
  await server.stop();
  assert.deepEqual(await later.answer(PROMPT, 24), expected);
  await new Promise((resolve) => setTimeout(resolve, 4000));
  assert.deepEqual(await later.answer(PROMPT, 24), expected);
  await server.resume();
  await using third = await ShardProcess.start("third", join);
  first.signal("SIGKILL");
  await eventually("the third one has taken its experts", () => {
    const { nodes, underReplicated } = status();
    return nodes.map(({ id }) => id).join() === "second,third" && underReplicated === 0;
  });
  assert.ok(status().epoch > epoch && third.address !== second.address);
  assert.deepEqual(await later.answer(PROMPT), expected);
});

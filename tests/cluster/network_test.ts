/** Shards on hosts of their own, over Ethernet frames of 1500 bytes: the same tokens, also through faults. */
import assert from "node:assert/strict";
import { ClusterSecret } from "@/cluster/cluster_secret.ts";
import { eventually } from "../patience.ts";
import { optionalTest } from "../skip.ts";
import { FrontRig } from "./front_rig.ts";
import { NetworkHosts, probeNamespaces } from "./network_namespaces.ts";
import { ShardProcess } from "./shard_process.ts";
import { promptOf, stream } from "./stream_load.ts";

const quantisation = "none";
const SECRET = "a secret of the test's small network";
const requests = [0, 1, 2, 3].map((number) => ({ promptIds: promptOf(number), tokens: 80 }));

async function answers(rig: FrontRig) {
  const streamed = await Promise.all(requests.map((request) => stream(rig, request)));
  return streamed.map(({ tokens }) => tokens);
}

optionalTest({
  name: "shards on hosts of their own give the same tokens, also when a cable is cut or one dies",
  needs: [await probeNamespaces()],
}, async () => {
  const expected = await (async () => {
    await using rig = await FrontRig.open({ quantisation });
    return await answers(rig);
  })();
  await using stack = new AsyncDisposableStack();
  const hosts = stack.use(await NetworkHosts.make(3));
  const secretPath = await Deno.makeTempFile();
  stack.defer(() => Deno.remove(secretPath));
  await Deno.writeTextFile(secretPath, SECRET);
  const addresses = [0, 1, 2].map((i) => `${hosts.address(i)}:7070`);
  const shards: ShardProcess[] = [];
  for (const [i, address] of addresses.entries()) {
    const args = ["--listen", address, "--secret-file", secretPath];
    shards.push(stack.use(await ShardProcess.start(`host-${i}`, args, hosts.through(i))));
  }
  const secret = ClusterSecret.fromText(SECRET);
  const cluster = { secret };
  const rig = stack.use(await FrontRig.open({ quantisation, addresses, replicas: 2, cluster }));
  await rig.covered();
  assert.deepEqual(await answers(rig), expected);
  const status = () => rig.serving.cluster!.status();
  const disturbed = async (fault: () => void | Promise<void>) => {
    await eventually("two copies of each expert", () => status().underReplicated === 0);
    const begun = rig.stepped(10);
    const running = answers(rig);
    await begun;
    await fault();
    return await running;
  };
  assert.deepEqual(await disturbed(() => hosts.cut(0, true)), expected, "a cut cable");
  await hosts.cut(0, false);
  await eventually("all three are back", () => status().nodes.length === 3);
  assert.deepEqual(await disturbed(() => shards[1]!.signal("SIGKILL")), expected, "a dead shard");
});

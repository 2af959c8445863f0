import assert from "node:assert/strict";
import { snakeCase } from "@/api/snake_case.ts";
import { FakeCluster } from "../../tests/http/fake_cluster.ts";
import { testApp } from "../../tests/http/test_app.ts";
import { ClusterWatch } from "./cluster_watch.ts";

function scene(options: { apiKeys?: string[]; cluster?: FakeCluster | undefined } = {}) {
  const cluster = "cluster" in options ? options.cluster : new FakeCluster();
  const { app } = testApp({ app: { apiKeys: options.apiKeys, cluster } });
  const watch = new ClusterWatch({
    fetch: (input, init) => Promise.resolve(app.request(input as string, init)),
    apiKey: "",
  });
  return { cluster: cluster!, watch };
}

Deno.test("ClusterWatch keeps status, map and the heartbeats before them", async () => {
  const { cluster, watch } = scene();
  await watch.refresh();
  await watch.refresh();
  const { server, status, layer, map, heartbeats } = watch.state();
  assert.deepEqual([server, status?.epoch, layer], ["live", 7, 0]);
  assert.deepEqual(map?.layers.map((entry) => entry.layer), [0]);
  assert.deepEqual(heartbeats.get("anna"), [0.21, 0.21]);
  assert.deepEqual(heartbeats.get("carl"), [], "no heartbeat was answered yet");
  watch.showLayer(3);
  await watch.refresh();
  cluster.change = { nodes: [] };
  await watch.refresh();
  assert.equal(watch.state().map?.layers[0]?.layer, 3);
  assert.equal(watch.state().heartbeats.size, 0);
});

Deno.test("ClusterWatch gives orders, and shows what the server says to them", async () => {
  const { cluster, watch } = scene();
  await watch.drain("anna", true);
  assert.equal(watch.state().notice, "anna gives its experts away");
  await watch.drain("zoe", true);
  assert.match(watch.state().notice!, /No shard zoe/);
  await watch.rebalance();
  assert.deepEqual(cluster.orders, ["drain anna", "rebalance"]);
});

Deno.test("ClusterWatch tells a missing key, a missing cluster and a missing server apart", async () => {
  const locked = scene({ apiKeys: ["k"] });
  await locked.watch.refresh();
  assert.equal(locked.watch.state().server, "locked");
  locked.watch.setApiKey("k");
  while (locked.watch.state().map === undefined) await new Promise((done) => setTimeout(done, 1));
  assert.equal(locked.watch.state().server, "live");
  const alone = scene({ cluster: undefined });
  await alone.watch.refresh();
  assert.equal(alone.watch.state().server, "alone");
  const answers = [Promise.reject(new TypeError("refused")), Response.json({})];
  const gone = new ClusterWatch({ fetch: () => Promise.resolve(answers.shift()!), apiKey: "" });
  await gone.refresh();
  assert.equal(gone.state().server, "offline");
});

Deno.test("ClusterWatch keeps a page of nodes bounded", async () => {
  const status = snakeCase(new FakeCluster().status());
  const watch = new ClusterWatch({
    fetch: (input) => {
      return Promise.resolve(Response.json(`${input}`.includes("status") ? status : {}));
    },
    apiKey: "",
  });
  for (let i = 0; i < 100; i++) await watch.refresh();
  assert.equal(watch.state().heartbeats.get("anna")!.length, 60);
});

import assert from "node:assert/strict";
import { FakeCluster } from "./fake_cluster.ts";
import { json, testApp } from "./test_app.ts";

function scene() {
  const cluster = new FakeCluster();
  return { cluster, ...testApp({ app: { cluster } }) };
}

Deno.test("cluster status comes in the API's spelling", async () => {
  const { app } = scene();
  const status = await json(app.request("/cluster/status"));
  assert.deepEqual([status.epoch, status.under_replicated, status.problem], [7, 0, null]);
  assert.equal(status.nodes[0].round_trips.p95_ms, 0.9);
  assert.equal(status.nodes[2].heartbeat_ms, null);
  assert.equal(status.tokens_per_second.decode, 480);
  assert.equal(status.calls.hedged_rows, 96);
});

Deno.test("cluster experts are given for all layers or one", async () => {
  const { app } = scene();
  assert.equal((await json(app.request("/cluster/experts"))).layers.length, 6);
  const one = await json(app.request("/cluster/experts?layer=2"));
  assert.deepEqual(one.layers.map(({ layer }: { layer: number }) => layer), [2]);
  assert.deepEqual(one.layers[0].owners[0], [0, 1]);
  for (const [layer, status] of [["9", 404], ["-1", 400], ["x", 400], ["", 400]] as const) {
    const response = await app.request(`/cluster/experts?layer=${layer}`);
    assert.equal(response.status, status, layer);
    assert.equal((await response.json()).error.param, "layer");
  }
});

Deno.test("cluster drain and rebalance reach the cluster, and say what is wrong", async () => {
  const { cluster, post } = scene();
  assert.equal((await post("/cluster/drain", { node: "anna" })).status, 202);
  assert.equal((await post("/cluster/drain", { node: "anna", draining: false })).status, 202);
  assert.equal((await post("/cluster/rebalance", "")).status, 202);
  assert.deepEqual(cluster.orders, ["drain anna", "keep anna", "rebalance"]);
  const unknown = await post("/cluster/drain", { node: "zoe" });
  assert.equal(unknown.status, 404);
  assert.match((await unknown.json()).error.message, /only: anna, bert, carl/);
  for (const body of [{}, { node: 3 }, { node: "anna", draining: "yes" }, { node: "" }]) {
    assert.equal((await post("/cluster/drain", body)).status, 400, JSON.stringify(body));
  }
  cluster.change = { planner: "front-2" };
  const conflict = await post("/cluster/rebalance", "");
  assert.equal(conflict.status, 409);
  assert.equal((await conflict.json()).error.code, "conflict");
});

Deno.test("cluster takes no orders from pages of other sites", async () => {
  const { cluster, post } = scene();
  const own = { origin: "http://localhost" };
  for (const origin of ["https://elsewhere.example", "null"]) {
    assert.equal((await post("/cluster/rebalance", "", { origin })).status, 400);
    assert.equal((await post("/cluster/drain", { node: "anna" }, { origin })).status, 400);
  }
  assert.equal((await post("/cluster/rebalance", "", own)).status, 202);
  const proxied = { origin: "https://front.example", host: "front.example" };
  assert.equal((await post("/cluster/rebalance", "", proxied)).status, 202);
  assert.deepEqual(cluster.orders, ["rebalance", "rebalance"]);
});

Deno.test("cluster routes answer 404 where there is no cluster", async () => {
  const { app, post } = testApp();
  for (const path of ["/cluster/status", "/cluster/experts"]) {
    assert.equal((await app.request(path)).status, 404);
  }
  const response = await post("/cluster/drain", { node: "anna" });
  assert.equal(response.status, 404);
  assert.match((await response.json()).error.message, /no cluster/);
});

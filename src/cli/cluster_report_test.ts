import assert from "node:assert/strict";
import { snakeCase } from "@/api/snake_case.ts";
import { FakeCluster } from "../../tests/http/fake_cluster.ts";
import { statusLines } from "./cluster_report.ts";

Deno.test("statusLines() shows nodes with their state, problems and layers", () => {
  const cluster = new FakeCluster();
  const text = statusLines(snakeCase(cluster.status())).join("\n");
  assert.match(text, /^serving\nepoch 7, idle, planned by front-1 \(7 plans, 400 copies/);
  assert.match(text, /anna +anna\.example:7070 +\S+ +ok +128 +128 +160 +480 MiB +5200/);
  assert.match(text, /bert .* circuit open /);
  assert.match(text, /carl .* draining /);
  assert.match(text, /carl: Cannot load expert 3 of layer 1: bad sector\nno shard at dora/);
  assert.match(text, /fronts, expert rows per second: front-1 1480, front-2 22/);
  assert.match(text, /0: 0\.950 1\.02 +1: 0\.930 1\.04/);
  const still = { prefill: 0, decode: 0, vision: 0 };
  cluster.change = {
    problem: "No live node owns expert 0 of layer 0",
    nodes: [],
    tokensPerSecond: still,
  };
  const broken = statusLines(snakeCase(cluster.status())).join("\n");
  assert.match(broken, /^NOT SERVING: No live node owns expert 0/);
  assert.match(broken, /no shard is connected/);
  assert.match(broken, /entropy show once tokens flow/);
});

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { benchShards } from "./bench_shards.ts";

Deno.test("benchShards() says where the time of a layer call goes", async () => {
  const lines: string[] = [];
  const folder = fileURLToPath(new URL("../../tests/fixtures/model/moe", import.meta.url));
  const options = { folder, shards: 2, replicas: 1, warmAnswers: 0, tokens: 8 };
  await benchShards(options, (line) => void lines.push(line));
  const medians = new Map(
    lines.slice(1).map((line) => {
      const [name, median] = line.split(/\s+/);
      return [name, Number(median)];
    }),
  );
  const parts = ["blocked", "compute", "wire", "wait", "wire+wait"];
  const names = ["token/alone", "token/2-shards", ...parts.map((part) => `layer/${part}`)];
  for (const name of names) assert.ok(medians.has(`cluster/${name}`), name);
  const tokens = ["blocked", "compute", "wire", "wait"].map((part) =>
    medians.get(`cluster/token/${part}`)!
  );
  const [blocked, ...rest] = tokens as [number, number, number, number];
  assert.ok(Math.abs(blocked - rest.reduce((sum, ms) => sum + ms, 0)) < 0.01, `${tokens}`);
  for (const [name, median] of medians) assert.ok(median >= 0, name);
  assert.ok(blocked > 0);
});

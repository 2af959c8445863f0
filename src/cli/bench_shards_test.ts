import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { benchShards } from "./bench_shards.ts";

Deno.test("benchShards() says where the time of a layer call goes", async () => {
  const lines: string[] = [];
  const folder = fileURLToPath(new URL("../../tests/fixtures/model/moe", import.meta.url));
  const options = { folder, shards: 2, warmAnswers: 0, tokens: 8 };
  await benchShards(options, (line) => void lines.push(line));
  const medians = new Map(
    lines.slice(1).map((line) => {
      const [name, median] = line.split(/\s+/);
      return [name, Number(median)];
    }),
  );
  const names = [...medians.keys()];
  assert.deepEqual(names.slice(0, 10), [
    ...["cluster/token/alone", "cluster/token/2-shards", "cluster/layer/blocked"],
    ...["cluster/layer/compute", "cluster/layer/compute-of-all", "cluster/layer/wire"],
    ...["cluster/layer/wait", "cluster/layer/wire+wait"],
    ...["cluster/layer/beyond-cores", "cluster/layer/nodes"],
  ]);
  // By nodes, and what the scheduler knows where it keeps books.
  const rest = /^cluster\/(layer\/wire\+wait\/[12]-nodes|cores\/(front|shards))$/;
  for (const name of names.slice(10)) assert.match(name!, rest);
  assert.ok(names.length > 10);
  for (const [name, median] of medians) assert.ok(median > 0, name);
});

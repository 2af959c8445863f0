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
  assert.deepEqual([...medians.keys()], [
    ...["cluster/token/alone", "cluster/token/2-shards", "cluster/layer/blocked"],
    ...["cluster/layer/compute", "cluster/layer/wire", "cluster/layer/wait"],
    ...["cluster/layer/wire+wait", "cluster/layer/nodes"],
  ]);
  for (const [name, median] of medians) assert.ok(median > 0, name);
});

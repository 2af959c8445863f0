import assert from "node:assert/strict";
import { parseBoxes, planCluster } from "./cluster_plan.ts";
import { parseFlags, UsageError } from "./flags.ts";

const MOE = new URL("../../tests/fixtures/model/moe", import.meta.url).pathname;

const plan = (...args: string[]) => planCluster(parseFlags("cluster", ["plan", ...args]));

Deno.test("parseBoxes() reads counts, sizes, units and speeds", () => {
  const boxes = parseBoxes("2x8GiB,1.5gb:2");
  assert.deepEqual(boxes.map(({ id, boxBytes, speed }) => [id, boxBytes, speed]), [
    ["box-01", 8 * 2 ** 30, 1],
    ["box-02", 8 * 2 ** 30, 1],
    ["box-03", 1.5e9, 2],
  ]);
  assert.equal(boxes[0]!.memoryBytes, 6 * 2 ** 30, "a shard leaves a quarter to others");
  for (const bad of ["", "8", "8GB:0", "0x8GB", "x8GB", "8TB", "999x1GB", "8GB,,8GB"]) {
    assert.throws(() => parseBoxes(bad), UsageError, bad);
  }
});

Deno.test("planCluster() reads the files, packs the boxes and adds up the wire", async () => {
  const { report, lines } = await plan("--model", MOE, "--nodes", "3x1MB,2MB:2", "--replicas", "2");
  assert.deepEqual([report.fits, report.model.source, report.model.expertBytesMax], [
    ...[true, "files", 3 * 64 * 64 * 2],
  ]);
  assert.equal(report.fit.nodes.reduce((sum, { experts }) => sum + experts, 0), 64);
  assert.ok(report.fit.nodes[3]!.loadShare > 2 * report.fit.nodes[0]!.loadShare);
  assert.match(lines.join("\n"), /fits: 2 copies of every expert \(3 would\); any 1 of the boxes/);
  assert.match(lines.join("\n"), /4 × 0.3 ms round trips = 1.20 ms/);
});

Deno.test("planCluster() plans from config.json alone, and says what is missing", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.copyFile(`${MOE}/config.json`, `${folder}/config.json`);
    const { report, lines } = await plan("--model", folder, "--nodes", "2x0.5MB");
    assert.deepEqual([report.fits, report.model.source], [false, "config"]);
    assert.match(lines.join("\n"), /does NOT fit.*\nmissing 48\.0 KiB for experts: about 1 more/);
    assert.doesNotMatch(lines.join("\n"), /round trips/, "no figures of half a plan");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("planCluster() wants one model with experts", async () => {
  await assert.rejects(() => plan(), UsageError);
  await assert.rejects(() => plan("--model", MOE, "--model", MOE), UsageError);
  await assert.rejects(() => plan("--model", MOE.replace("moe", "dense")), /the model has none/);
});

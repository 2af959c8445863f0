import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { examine } from "./doctor.ts";
import { parseFlags } from "./flags.ts";

const shape = (name: string) =>
  fileURLToPath(new URL(`../../benchmarks/shapes/${name}`, import.meta.url));

async function findings(...args: string[]) {
  const report = await examine(parseFlags("doctor", ["--threads", "1", ...args]));
  const find = (name: string) => report.findings.find((finding) => finding.name === name);
  return { report, find };
}

Deno.test("examine() finds 32-bit kernels and says up to where the 64-bit ones go", async () => {
  const { report, find } = await findings();
  assert.equal(report.kernels?.variant, "relaxed-simd+threads");
  assert.deepEqual(find("large models"), {
    name: "large models",
    ok: true,
    detail: "64-bit kernels take over above 3.5 GiB, up to 16.0 GiB",
  });
  assert.equal(find("model"), undefined);
});

Deno.test("examine() tells what a model needs and which kernels will run it", async () => {
  const args = ["--synthetic", "--quant", "q4", "--context", "2048"];
  const small = await findings("--model", shape("sail-vl2-2b"), ...args);
  assert.equal(small.report.kernels?.variant, "relaxed-simd+threads");
  const large = await findings("--model", `big=${shape("sail-vl2-8b")}`, ...args);
  assert.equal(large.report.kernels?.variant, "relaxed-simd+threads+memory64");
  assert.match(large.report.kernels.reason, /^the model needs about \d\.\d GiB$/);
  assert.match(
    large.find("model")!.detail,
    /^big needs up to \d\.\d GiB \(weights \d\.\d, KV cache 0\.5, work \d\.\d\); \d+\.\d GiB are available$/,
  );
});

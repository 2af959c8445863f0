/** `bench --smoke` as a user starts it: structure and relations of its report, never a speed. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseReport, type Report } from "@/bench/report.ts";
import { inTemporaryFolder } from "../temporary_folder.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

async function bench(...args: string[]): Promise<{ code: number; out: string; errors: string }> {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--allow-all", "src/main.ts", "bench", ...args],
    cwd: root,
    stdin: "null",
    // A peer that happens to be on the path would make the run long.
    env: { PATH: "/nowhere" },
  });
  const { code, stdout, stderr } = await command.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), errors: text(stderr) };
}

const expectedNames = [
  "limits/read",
  "limits/i16",
  "limits/dot3",
  "limits/f32",
  "load/smoke/q4",
  "prefill/smoke/q4/512",
  "decode/smoke/q4/b1",
  "batch/smoke/q4/b4",
  "vit/tile/q4",
  "ttft/smoke/q4/picture",
  "step/skeleton",
  "memory/smoke/q4",
  "load/smoke/q4/packed",
  "prefill/smoke/q8/512",
  "decode/smoke/q8/b1",
  "step/overhead",
];

function checkRows({ rows }: Report): void {
  assert.deepEqual(rows.map(({ name }) => name), expectedNames);
  for (const { name, value, samples, limit, fraction, readGBs } of rows) {
    assert.equal(value, samples.median, name);
    if (limit === undefined) continue;
    assert.ok(fraction! > 0 && fraction! <= 1.5, `${name} reaches ${fraction} of its limit`);
    if (!name.startsWith("limits/")) assert.ok(readGBs! > 0, name);
  }
  const limited = rows.filter(({ limit }) => limit !== undefined).map(({ name }) => name);
  assert.deepEqual(
    limited,
    expectedNames.filter((name) => /^(prefill|decode|batch|vit)\//.test(name)),
  );
}

Deno.test("bench --smoke reports every row with its limit, as table, JSON and chart", () =>
  inTemporaryFolder(async (folder) => {
    const [json, svg] = [join(folder, "report.json"), join(folder, "chart.svg")];
    const { code, out, errors } = await bench(
      "--smoke",
      "--json",
      json,
      "--svg",
      svg,
      "--cache",
      join(folder, "cache"),
    );
    assert.equal(code, 0, errors);
    const report = parseReport(await Deno.readTextFile(json));
    checkRows(report);
    for (const name of expectedNames) assert.ok(out.includes(`\n${name} `), `${name} in\n${out}`);
    assert.match(errors, /% .* left {2}decode\/smoke\/q4\/b1/);
    const picture = await Deno.readTextFile(svg);
    assert.match(picture, /^<svg .*<\/svg>\n$/s);
    assert.match(picture, /decode\/smoke\/q4\/b1/);
    const { environment } = report;
    assert.ok(environment.cpu !== "" && environment.threads >= 1);
    assert.match(environment.kernels, /simd/);
    const files = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
    assert.deepEqual(files, ["cache", "chart.svg", "report.json"], "no partial file is left");
  }));

Deno.test("bench measures only the rows that --only names", () =>
  inTemporaryFolder(async (folder) => {
    const json = join(folder, "report.json");
    const { code, errors } = await bench("--smoke", "--only", "decode/smoke/q8/*", "--json", json);
    assert.equal(code, 0, errors);
    const { rows } = parseReport(await Deno.readTextFile(json));
    const measured = rows.map(({ name }) => name).filter((name) => !name.startsWith("limits/"));
    assert.deepEqual(measured, ["decode/smoke/q8/b1"]);
  }));

Deno.test("bench refuses a peer that is missing and says how to get it", () =>
  inTemporaryFolder(async (folder) => {
    for (const peer of ["llama.cpp", "wllama", "onnxruntime-web"]) {
      const { code, errors } = await bench("--smoke", "--peers", peer, "--cache", folder);
      assert.equal(code, 1, errors);
      assert.match(errors, new RegExp(`Cannot compare with ${peer.replace(".", "\\.")}: `));
      assert.match(errors, /README\.md|npm install/);
    }
    const unknown = await bench("--smoke", "--peers", "another");
    assert.equal(unknown.code, 2, unknown.errors);
  }));

Deno.test("bench refuses a pattern that matches no row", async () => {
  const { code, errors } = await bench("--smoke", "--only", "nothing/*");
  assert.equal(code, 2);
  assert.match(errors, /matches no row/);
});

/** The test command's own parts, and one real run of a child with every kind of outcome. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { parseArguments, runTests, summarize, testFiles } from "./run.ts";
import { parseSkippedName, probeCommand, probePath, skippedName } from "./skip.ts";

/** Runs a test file with the given text and returns what its report says. */
async function reportOf(text: string): ReturnType<typeof runTests> {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(join(folder, "sample_test.ts"), text);
    return await runTests(["sample_test.ts"], { folder, output: "null" });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("summarize() counts passed, failed and skipped tests of a real run", async () => {
  const run = await reportOf(`
    Deno.test("one <&> 'two' \\"three\\"", async (t) => {
      await t.step("step", () => {});
      await t.step({ name: "later", ignore: true, fn() {} });
    });
    Deno.test("passes", () => {});
    Deno.test("fails > here", async (t) => {
      await t.step("deep", () => { throw new Error("</testcase> no"); });
    });
    Deno.test({ name: "draws [skipped: gpu: no device]", ignore: true, fn() {} });
  `);
  assert.equal(run.cases[0]!.name, "one <&> 'two' \"three\"");
  const { lines, passed } = summarize(run, undefined);
  assert.equal(passed, false);
  assert.equal(lines.at(-1), "2 passed, 1 failed, 2 skipped");
  assert.match(lines.join("\n"), /^skipped: draws \(gpu: no device\)$/m);
});

Deno.test("summarize() fails a run whose file does not load", async () => {
  for (const text of ['throw new Error("top")', 'import "./missing.ts";', "const = 1"]) {
    const { lines, passed } = summarize(await reportOf(text), undefined);
    assert.equal(passed, false, text);
    assert.equal(lines.at(-1), "0 passed, 1 failed, 0 skipped", text);
  }
  assert.equal(summarize({ success: true, cases: [] }, undefined).passed, false);
});

Deno.test("summarize() fails on a skip whose tool is not allowed", () => {
  const skipped = (tool: string) => ({
    name: skippedName("draws", { tool, missing: "absent" }),
    state: "skipped" as const,
  });
  const run = { success: true, cases: [skipped("gpu"), skipped("chromium")] };
  assert.equal(summarize(run, ["gpu", "chromium"]).passed, true);
  assert.equal(summarize(run, undefined).passed, true);
  const strict = summarize(run, ["gpu"]);
  assert.equal(strict.passed, false);
  assert.equal(strict.lines.at(-1), "0 passed, 1 failed, 2 skipped");
});

Deno.test("parseArguments() reads flags and path parts, and refuses unknown flags", () => {
  assert.deepEqual(parseArguments(["--fast", "kernels", "--allow-skips=gpu,ffmpeg"]), {
    fast: true,
    allowedSkips: ["gpu", "ffmpeg"],
    pathParts: ["kernels"],
  });
  assert.deepEqual(parseArguments(["--allow-skips", "gpu"]).allowedSkips, ["gpu"]);
  assert.equal(parseArguments([]).allowedSkips, undefined);
  assert.throws(() => parseArguments(["--fsat"]), TypeError);
});

Deno.test("testFiles() finds this file", () => {
  assert.ok(testFiles("tests").includes("tests/run_test.ts"));
});

Deno.test("parseSkippedName() inverts skippedName() and marks tests ignored by hand", () => {
  const probe = { tool: "gpu", missing: "no device: /dev/x [none]" };
  assert.deepEqual(parseSkippedName(skippedName("a: b", probe)), { name: "a: b", ...probe });
  assert.equal(parseSkippedName("a").tool, "none");
});

Deno.test("probeCommand() and probePath() tell present from missing", async () => {
  const options = { commands: ["no-such-program", Deno.execPath()] };
  assert.equal((await probeCommand("deno", options)).command, Deno.execPath());
  assert.match((await probeCommand("no-such-program")).missing!, /no-such-program/);
  assert.equal((await probePath("here", new URL(import.meta.url))).missing, undefined);
  assert.equal((await probePath("there", "no/such/path")).missing, "not built");
});

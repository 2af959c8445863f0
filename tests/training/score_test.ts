/** `train score` as a greedy soup runs it: as a command with the folder last. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { inTemporaryFolder } from "../temporary_folder.ts";

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const model = fileURLToPath(new URL("../fixtures/model/dense", import.meta.url));

Deno.test("train score says each task's accuracy, and the mean in the last line", () =>
  inTemporaryFolder(async (folder) => {
    const path = join(folder, "scores.json");
    const flags = ["--task", "digit=3", "--task", "talk", "--count", "2", "--answer-tokens", "4"];
    const { success, stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-all", "--no-check", main, "train", "score", ...flags]
        .concat(["--side", "56", "--threads", "1", "--json", path, model]),
      stderr: "inherit",
    }).output();
    assert.ok(success);
    const lines = new TextDecoder().decode(stdout).trim().split("\n");
    const report = JSON.parse(await Deno.readTextFile(path));
    assert.equal(Number(lines.at(-1)), Number(report.mean.toFixed(4)));
    assert.deepEqual(
      report.tasks.map(({ task, count, cut }: Record<string, unknown>) => [task, count, cut]),
      [["digit", 3, 3], ["talk", 2, 2]],
    );
    assert.equal(report.tasks[0].answerTokensMean, 4);
    assert.match(lines[1]!, /^digit +3 +0 +0\.0 {2}0\.0 to 56\.1 +3 +4\.0$/);
  }));

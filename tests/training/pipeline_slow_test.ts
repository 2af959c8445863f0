/** Stages one after the other as a command; a pipeline that is killed goes on where it was. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { inTemporaryFolder } from "../temporary_folder.ts";

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const model = fileURLToPath(new URL("../fixtures/model/dense", import.meta.url));

function start(folder: string): Deno.ChildProcess {
  const args = ["run", "--allow-all", "--no-check", main, "train", "pipeline", "--model", model];
  const part = ["--from", "sft_basic", "--until", "sft_hard", "--steps-share", "0.0008"];
  return new Deno.Command(Deno.execPath(), {
    args: [...args, "--out", folder, "--threads", "1", ...part],
    stdout: "null",
    stderr: "inherit",
  }).spawn();
}

const exists = (path: string) => Deno.stat(path).then(() => true, () => false);

Deno.test("train pipeline goes on after kill -9 and ends with the last stage's model", () =>
  inTemporaryFolder(async (folder) => {
    const victim = start(folder);
    const first = join(folder, "sft_basic", "result.json");
    while (!await exists(first)) await new Promise((resolve) => setTimeout(resolve, 20));
    victim.kill("SIGKILL");
    await victim.status;
    const { mtime } = await Deno.stat(first);
    assert.ok((await start(folder).status).success);
    assert.deepEqual((await Deno.stat(first)).mtime, mtime, "a finished stage is not run again");
    const { model } = JSON.parse(await Deno.readTextFile(join(folder, "sft_hard", "result.json")));
    const lineage = JSON.parse(
      await Deno.readTextFile(join(folder, "sft_hard", model, "lineage.json")),
    );
    assert.equal(lineage.ancestors.length, 4, "the start and three stages");
  }));

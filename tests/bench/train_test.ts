/** `bench train` beside PyTorch, as a user starts it where there is none. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { inTemporaryFolder } from "../temporary_folder.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

async function benchTrain(...args: string[]): Promise<{ code: number; errors: string }> {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--allow-all", "src/main.ts", "bench", "train", ...args],
    cwd: root,
    stdin: "null",
    stdout: "null",
    env: { PATH: "/nowhere" },
  });
  const { code, stderr } = await command.output();
  return { code, errors: new TextDecoder().decode(stderr) };
}

Deno.test("bench train --peers pytorch names what to install when there is none", () =>
  inTemporaryFolder(async (folder) => {
    const cache = join(folder, "cache");
    const { code, errors } = await benchTrain("--peers", "pytorch", "--cache", cache);
    assert.notEqual(code, 0);
    assert.match(errors, /Cannot compare with PyTorch/);
    assert.ok(errors.includes(`${cache}/pytorch/bin/pip install torch numpy`), errors);
  }));

Deno.test("bench train --peers refuses other engines", async () => {
  const { code, errors } = await benchTrain("--peers", "llama.cpp");
  assert.equal(code, 2);
  assert.match(errors, /--peers names "llama.cpp", expected pytorch/);
});

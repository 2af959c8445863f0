/** Packing survives `kill -9` at any point: finished files stay, the result is the same bytes. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const model = join(root, "tests/fixtures/model/dense");

/** Runs the packing program; `share` is where it kills itself. */
async function pack(out: string, share: number): Promise<Deno.CommandOutput> {
  const program = "tests/quantize/killed_packing.ts";
  return await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--allow-all", program, model, out, String(share)],
    cwd: root,
    stderr: "inherit",
  }).output();
}

async function contentsOf(folder: string): Promise<Map<string, string>> {
  const names = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();
  const contents = await Promise.all(names.map((name) => Deno.readFile(join(folder, name))));
  return new Map(names.map((name, i) => [name, contents[i]!.toBase64()]));
}

const isPart = (name: string) => /^packed-.*\.safetensors$/.test(name);

Deno.test("a packing killed three times ends in the folder of an undisturbed one", async () => {
  const folder = await Deno.makeTempDir({ prefix: "flotilla-killed-" });
  try {
    const [whole, killed] = [join(folder, "whole"), join(folder, "killed")];
    equal((await pack(whole, 2)).success, true);
    const expected = await contentsOf(whole);
    const places = new Map<string, number | null>();
    for (const share of [0.02, 0.5, 0.9]) {
      const { signal } = await pack(killed, share);
      equal(signal, "SIGKILL");
      const contents = await contentsOf(killed);
      equal(contents.has("packed.json"), false, "a manifest without all files");
      const parts = [...contents.keys()].filter(isPart);
      if (share > 0.1) ok(parts.length > places.size, `${parts} after ${share}`);
      for (const part of parts) {
        equal(contents.get(part), expected.get(part), part);
        const { ino } = await Deno.stat(join(killed, part));
        equal(ino, places.get(part) ?? ino, `${part} was written again`);
        places.set(part, ino);
      }
    }
    const { success, stdout } = await pack(killed, 2);
    equal(success, true);
    equal(Number(new TextDecoder().decode(stdout)), places.size);
    deepEqual(await contentsOf(killed), expected);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

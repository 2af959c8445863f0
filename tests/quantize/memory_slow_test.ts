/** Packing holds pieces in memory, never the model. */
import { ok } from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Widths that fill no group, so that drawn weights are rounded like stored ones. */
const shape = {
  hidden_size: 1000,
  intermediate_size: 3000,
  num_hidden_layers: 16,
  num_attention_heads: 25,
  num_key_value_heads: 25,
  head_dim: 40,
};

Deno.test("packing takes a fraction of the model's memory", async () => {
  const folder = await Deno.makeTempDir({ prefix: "flotilla-memory-" });
  try {
    const dense = join(root, "tests/fixtures/model/dense/config.json");
    const config = JSON.parse(await Deno.readTextFile(dense));
    Object.assign(config.llm_config, shape);
    await Deno.writeTextFile(join(folder, "config.json"), JSON.stringify(config));
    const { success, stdout } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--no-check",
        "--allow-all",
        "tests/quantize/measured_packing.ts",
        folder,
        join(folder, "out"),
      ],
      cwd: root,
      stderr: "inherit",
    }).output();
    ok(success);
    const { grownBytes, parameters } = JSON.parse(new TextDecoder().decode(stdout));
    ok(parameters > 200e6, `${parameters} parameters`);
    const modelBytes = 2 * parameters;
    ok(grownBytes < modelBytes / 2, `memory grew by ${grownBytes} for a model of ${modelBytes}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

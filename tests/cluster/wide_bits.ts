/**
 * Bits at the widths of a real model: answers over shards against the single process, with drawn
 * weights. `deno run -A tests/cluster/wide_bits.ts [--quant none|q8|q4] [--shards 1,2,4,8]
 * [--layers N] [--tokens N]`. Takes gigabytes of memory for each layer; the fixture's bits are in
 * bit_equality_test.ts.
 */
import assert from "node:assert/strict";
import { parseArgs } from "node:util";
import type { Quantisation } from "@/weights/precision.ts";
import { root } from "../server/server_process.ts";
import { FrontRig } from "./front_rig.ts";
import { ShardProcess } from "./shard_process.ts";

const SHAPE = `${root}/benchmarks/shapes/30b-a3b-4-layers`;
const prompts = ["what is on the table", "count the birds ".repeat(6)];

interface WideBitsOptions {
  readonly quantisation: Quantisation;
  readonly counts: readonly number[];
  readonly layers: number;
  readonly tokens: number;
}

/** A copy of the shape with other numbers of layers. */
async function shapeWith(layers: number): Promise<string> {
  const folder = await Deno.makeTempDir();
  for await (const { name, isFile } of Deno.readDir(SHAPE)) {
    if (isFile) await Deno.copyFile(`${SHAPE}/${name}`, `${folder}/${name}`);
  }
  const config = JSON.parse(await Deno.readTextFile(`${SHAPE}/config.json`));
  config.llm_config.num_hidden_layers = layers;
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
  return folder;
}

function print(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

async function compareBits(
  folder: string,
  { quantisation, counts, tokens }: WideBitsOptions,
): Promise<void> {
  const model = { folder, synthetic: true } as const;
  const answers = (rig: FrontRig) =>
    Promise.all(prompts.map((prompt) => rig.answer(prompt, tokens)));
  const alone = await (async () => {
    await using rig = await FrontRig.open({ quantisation, model });
    return await answers(rig);
  })();
  for (const count of counts) {
    await using stack = new AsyncDisposableStack();
    const args = ["--model", folder, "--synthetic", "--quant", quantisation];
    const addresses: string[] = [];
    for (let i = 0; i < count; i++) {
      const shard = stack.use(await ShardProcess.start(`wide-${i}`, args));
      addresses.push(shard.address);
    }
    await using rig = await FrontRig.open({ quantisation, addresses, model });
    await rig.covered(600_000);
    assert.deepEqual(await answers(rig), alone, `${count} shards`);
    const { nodes } = rig.serving.cluster!.status();
    const rows = nodes.map(({ calls }) => calls.rows);
    assert.ok(rows.length === count && rows.every((value) => value > 0), `rows ${rows}`);
    print(`${quantisation}, ${count} shards: equal; rows by node ${rows}`);
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    args: [...Deno.args],
    options: {
      quant: { type: "string", default: "none" },
      shards: { type: "string", default: "8" },
      layers: { type: "string", default: "1" },
      tokens: { type: "string", default: "8" },
    },
  });
  const folder = await shapeWith(Number(values.layers));
  try {
    await compareBits(folder, {
      quantisation: values.quant as Quantisation,
      counts: values.shards.split(",").map(Number),
      layers: Number(values.layers),
      tokens: Number(values.tokens),
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

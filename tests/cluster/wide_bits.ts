/**
 * Bits at the widths of a real model: answers over shards against the single process, with drawn
 * weights. `deno run -A tests/cluster/wide_bits.ts [--quant none|q8|q4] [--shards 1,2,4,8]
 * [--layers N] [--tokens N]`. Takes a gigabyte or two of memory for each layer; the fixture's bits
 * are in bit_equality_test.ts. Vocabulary and vision tower are small: they are never shared, and
 * drawing them took most of the time.
 *
 * A loaded machine makes it slow, not wrong: it waits as long as shards load, asks again what was
 * refused because calls took too long, and has the experts planned anew for a shard that came late.
 */
import assert from "node:assert/strict";
import { parseArgs } from "node:util";
import type { Quantisation } from "@/weights/precision.ts";
import { root } from "../server/server_process.ts";
import { Patience } from "../patience.ts";
import { type Answer, FrontRig, pause } from "./front_rig.ts";
import { ShardProcess } from "./shard_process.ts";

const SHAPE = `${root}/benchmarks/shapes/30b-a3b-4-layers`;
const prompts = ["what is on the table", "count the birds ".repeat(6)];

interface WideBitsOptions {
  readonly quantisation: Quantisation;
  readonly counts: readonly number[];
  readonly layers: number;
  readonly tokens: number;
}

/** Tokens of bytes and those of the prompt's grammar, with room. */
const VOCABULARY = 8192;

/** A copy of the shape with another number of layers, and little beside them. */
async function shapeWith(layers: number): Promise<string> {
  const folder = await Deno.makeTempDir();
  for await (const { name, isFile } of Deno.readDir(SHAPE)) {
    if (isFile) await Deno.copyFile(`${SHAPE}/${name}`, `${folder}/${name}`);
  }
  const config = JSON.parse(await Deno.readTextFile(`${SHAPE}/config.json`));
  config.llm_config.num_hidden_layers = layers;
  config.llm_config.vocab_size = VOCABULARY;
  config.llm_config.bos_token_id = config.llm_config.pad_token_id = VOCABULARY - 2;
  config.llm_config.eos_token_id = VOCABULARY - 1;
  config.vision_config.num_hidden_layers = 1;
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
  return folder;
}

function print(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

/** How long nothing may be loaded, and how often an answer is asked for. */
const STALL_MS = 120_000;
const TRIES = 20;

/** Waits until each of `count` shards has experts and holds all of them, while more get loaded. */
async function loaded(rig: FrontRig, count: number): Promise<void> {
  let [held, patience] = [-1, new Patience(STALL_MS)];
  let progress = 0;
  for (;;) {
    const status = rig.serving.cluster!.status();
    const isWhole = status.nodes.length === count && !rig.serving.problem() &&
      status.nodes.every((node) => node.planned > 0 && node.held >= node.planned);
    if (isWhole) return;
    const now = status.nodes.reduce((sum, node) => sum + node.held, 0);
    if (now !== held) [held, patience] = [now, new Patience(STALL_MS)];
    if (now > progress) print(`  ${progress = now} experts held, ${status.nodes.length} shards`);
    assert.ok(!patience.isOver, `${held} experts held, ${status.nodes.length} shards: no progress`);
    // A shard that missed the first plan owns nothing until the experts are planned anew.
    const isResting = status.epoch > 0 && status.phase === "idle" && !status.rebalancing;
    if (isResting && status.nodes.some((node) => node.planned === 0)) {
      rig.serving.cluster!.rebalance();
    }
    await pause(100);
  }
}

/** An answer; again while the machine is too slow for the bounds of a call. */
async function patientAnswer(rig: FrontRig, prompt: string, tokens: number): Promise<Answer> {
  for (let tries = 1;; tries++) {
    const { status, body } = await rig.post(prompt, tokens);
    if (status === 200) {
      const [choice] = (body as { choices: { token_ids: number[]; logprobs: unknown }[] }).choices;
      return { tokens: choice!.token_ids, logprobs: choice!.logprobs };
    }
    assert.ok(status === 503 && tries < TRIES, JSON.stringify(body));
    print(`  asked again: ${JSON.stringify(body)}`);
    await pause(1000);
  }
}

async function compareBits(
  folder: string,
  { quantisation, counts, tokens }: WideBitsOptions,
): Promise<void> {
  const model = { folder, synthetic: true } as const;
  const answers = (rig: FrontRig) =>
    Promise.all(prompts.map((prompt) => patientAnswer(rig, prompt, tokens)));
  const alone = await (async () => {
    await using rig = await FrontRig.open({ quantisation, model });
    return await answers(rig);
  })();
  print(`  the single process has answered`);
  for (const count of counts) {
    await using stack = new AsyncDisposableStack();
    const args = ["--model", folder, "--synthetic", "--quant", quantisation];
    const addresses: string[] = [];
    for (let i = 0; i < count; i++) {
      const shard = stack.use(await ShardProcess.start(`wide-${i}`, args));
      addresses.push(shard.address);
    }
    await using rig = await FrontRig.open({ quantisation, addresses, model });
    await loaded(rig, count);
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

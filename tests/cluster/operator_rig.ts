/** A real front and what an operator does with it: commands, status, answers that go on meanwhile. */
import assert from "node:assert/strict";
import type { ClusterStatusBody } from "@/api/cluster.ts";
import { eventually } from "../patience.ts";
import { fixtureFolder, root, ServerProcess } from "../server/server_process.ts";
import type { ShardProcess } from "./shard_process.ts";

const MOE = fixtureFolder("moe");

/** `deno task cluster …`, as a user calls it. */
export async function cluster(...args: string[]) {
  const command = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-check", "--allow-net", "--allow-read", "--allow-env", "--allow-sys"],
      ...["src/main.ts", "cluster", ...args],
    ],
    cwd: root,
  });
  const { code, stdout, stderr } = await command.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), error: text(stderr) };
}

export async function startFront(cluster: string, args: readonly string[] = []) {
  const front = await ServerProcess.start([
    ...["--model", `moe=${MOE}`, "--threads", "1", "--context", "512", "--speculation", "off"],
    ...["--cluster", cluster, "--local-experts", "none", ...args],
  ]);
  await eventually(
    "the cluster is ready",
    async () => (await fetch(`${front.url}/readyz`)).status === 200,
  );
  return front;
}

export const addressesOf = (shards: readonly ShardProcess[]) =>
  shards.map(({ address }) => address).join(",");

export const statusOf = async (front: ServerProcess): Promise<ClusterStatusBody> =>
  await (await fetch(`${front.url}/cluster/status`)).json();

/** Token ids of one answer. */
async function answer(front: ServerProcess, prompt: string, tokens = 64): Promise<number[]> {
  const response = await front.post("/v1/chat/completions", {
    messages: [{ role: "user", content: prompt }],
    ...{ max_tokens: tokens, temperature: 0, ignore_eos: true, return_token_ids: true },
  });
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return JSON.parse(text).choices[0].token_ids;
}

const PROMPTS = ["tell of the sea", "count the birds", "name the colours", "draw a map"];

/** Answers one after another in four lanes while something happens; all must be as before. */
export async function answersDuring(front: ServerProcess, event: () => Promise<unknown>) {
  const expected = await Promise.all(PROMPTS.map((prompt) => answer(front, prompt)));
  const state = { isOver: false, count: 0 };
  const lane = async (i: number) => {
    while (!state.isOver) {
      assert.deepEqual(await answer(front, PROMPTS[i]!), expected[i], "the same tokens");
      state.count += 1;
    }
  };
  const lanes = PROMPTS.map((_, i) => lane(i));
  try {
    await event();
  } finally {
    state.isOver = true;
    await Promise.all(lanes);
  }
  assert.ok(state.count >= PROMPTS.length, "answers ran meanwhile");
}

/** `--wire bf16`: shorter frames whose results are close, not equal. */
import assert from "node:assert/strict";
import { FrontRig } from "./front_rig.ts";
import { ShardProcess } from "./shard_process.ts";

const PROMPT = "tell the story of the lamp";

interface Logprobs {
  readonly content: readonly {
    readonly top_logprobs: readonly { readonly token: string; readonly logprob: number }[];
  }[];
}

/** Log-probabilities of the first token's candidates. */
async function firstToken(rig: FrontRig): Promise<Map<string, number>> {
  const { logprobs } = await rig.answer(PROMPT, 1);
  const { top_logprobs: top } = (logprobs as Logprobs).content[0]!;
  return new Map(top.map(({ token, logprob }) => [token, logprob]));
}

/** Kullback-Leibler divergence among the candidates that both have. */
function divergenceOf(exact: Map<string, number>, other: Map<string, number>): number {
  const shared = [...exact.keys()].filter((token) => other.has(token));
  const total = (of: Map<string, number>) =>
    Math.log(shared.reduce((sum, token) => sum + Math.exp(of.get(token)!), 0));
  const [exactTotal, otherTotal] = [total(exact), total(other)];
  return shared.reduce((sum, token) => {
    const [p, q] = [exact.get(token)! - exactTotal, other.get(token)! - otherTotal];
    return sum + Math.exp(p) * (p - q);
  }, 0);
}

for (const quantisation of ["none"] as const) {
  Deno.test(`--wire bf16 stays close to exact results in ${quantisation}`, async () => {
    const args = quantisation === "none" ? [] : ["--quant", quantisation];
    await using shard = await ShardProcess.start("shard", args);
    const addresses = [shard.address];
    const exact = await (async () => {
      await using rig = await FrontRig.open({
        quantisation,
        addresses,
        cluster: { wire: "exact" },
      });
      await rig.covered();
      return await firstToken(rig);
    })();
    await using rig = await FrontRig.open({ quantisation, addresses, cluster: { wire: "bf16" } });
    await rig.covered();
    const short = await firstToken(rig);
    assert.notDeepEqual(short, exact, "bfloat16 rounds");
    const divergence = divergenceOf(exact, short);
    assert.ok(divergence < 1e-3, `divergence of ${divergence}`);
  });
}

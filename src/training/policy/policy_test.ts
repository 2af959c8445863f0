import assert from "node:assert/strict";
import { groupAdvantages, leaveOneOutAdvantages, selectGroups } from "./advantages.ts";
import { boundedK3, type KlKind, klOf } from "./kl_penalty.ts";
import {
  cosineLengthReward,
  overlongPenalty,
  repetitionPenalty,
  unboundedOverlongPenalty,
} from "./length_shaping.ts";
import {
  activationEntropy,
  addRouting,
  countRouting,
  loadBalanceGradient,
  loadBalanceLoss,
  routeToken,
  zLoss,
} from "./moe_balance.ts";
import {
  type Aggregation,
  dapoOptions,
  type Objective,
  policyLoss,
  type PolicyLossOptions,
  type TokenTable,
} from "./policy_loss.ts";

// deno-lint-ignore no-explicit-any
type Any = any;
interface Case {
  readonly fn: string;
  readonly id: string;
  readonly input: Any;
  readonly expected: Any;
}

const file = new URL("../../../tests/fixtures/data/rl_moe_optim.json", import.meta.url);
const cases: Case[] = JSON.parse(Deno.readTextFileSync(file)).cases;

function each(fn: string, check: (input: Any, expected: Any, id: string) => void): void {
  const own = cases.filter((item) => item.fn === fn);
  assert.ok(own.length > 0, `${fn} has cases`);
  for (const { input, expected, id } of own) check(input, expected, `${fn} ${id}`);
}

function close(got: number, expected: number, what: string, tolerance = 1e-6): void {
  const scale = Math.max(1, Math.abs(expected));
  assert.ok(Math.abs(got - expected) <= tolerance * scale, `${what}: ${got}, expected ${expected}`);
}

function closeTable(got: TokenTable, expected: TokenTable, what: string, tolerance = 1e-6): void {
  for (const [i, row] of expected.entries()) {
    for (const [t, value] of row.entries()) {
      close(got[i]![t]!, value, `${what} [${i}][${t}]`, tolerance);
    }
  }
}

const spread = (values: readonly number[], mask: TokenTable) =>
  mask.map((row, i) => row.map((counted) => values[i]! * counted));

Deno.test("groupAdvantages() and leaveOneOutAdvantages() equal verl", () => {
  each("verl_grpo_advantage", ({ rewards, group, mask, normalise_std, epsilon }, expected, id) => {
    const got = groupAdvantages(rewards, group, { normalize: normalise_std, epsilon });
    closeTable(spread(got, mask), expected, id);
  });
  each("verl_rloo_advantage", ({ rewards, group, mask }, expected, id) => {
    closeTable(spread(leaveOneOutAdvantages(rewards, group), mask), expected, id);
  });
});

const aggregations: Record<string, (width: number) => Aggregation> = {
  "token-mean": () => ({ kind: "token_mean" }),
  "seq-mean-token-mean": () => ({ kind: "sequence_mean_of_means" }),
  "seq-mean-token-sum": () => ({ kind: "sequence_mean_of_sums" }),
};

function checkVerl(fn: string, options: (input: Any) => PolicyLossOptions): void {
  each(fn, (input, expected, id) => {
    const { old, new: now, mask, advantages } = input;
    const got = policyLoss({ old, now, mask, advantages }, options(input));
    close(got.loss, expected.loss, `${id} loss`);
    closeTable(got.gradient, expected.grad, `${id} gradient`);
    close(got.clipFraction, expected.metrics["actor/pg_clipfrac"], `${id} clip fraction`);
    close(got.lowerClipFraction, expected.metrics["actor/pg_clipfrac_lower"], `${id} lower`);
    close(got.approximateKl, expected.metrics["actor/ppo_kl"], `${id} kl`);
  });
}

Deno.test("policyLoss() with the clip, its bounds and the dual clip equals verl", () => {
  checkVerl("verl_compute_policy_loss_vanilla", (input) => ({
    objective: {
      kind: "clip",
      low: input.clip_ratio_low ?? input.clip_ratio,
      high: input.clip_ratio_high ?? input.clip_ratio,
      dual: input.clip_ratio_c,
    },
    // The normed form sums over all tokens and divides by the width alone.
    aggregation: input.agg === "seq-mean-token-sum-norm"
      ? { kind: "token_sum", count: input.mask[0].length }
      : aggregations[input.agg]!(0),
    logRatioMax: 20,
  }));
});

Deno.test("policyLoss() of GSPO, GMPO, CISPO and SAPO equals verl", () => {
  const means: Aggregation = { kind: "sequence_mean_of_means" };
  checkVerl("verl_compute_policy_loss_gspo", ({ clip_ratio_low, clip_ratio_high }) => ({
    objective: { kind: "clip", low: clip_ratio_low, high: clip_ratio_high },
    level: "sequence",
    aggregation: means,
  }));
  checkVerl("verl_compute_policy_loss_geo_mean", ({ clip_ratio_low, clip_ratio_high }) => ({
    objective: { kind: "geometric", low: clip_ratio_low, high: clip_ratio_high },
    aggregation: means,
  }));
  checkVerl("verl_compute_policy_loss_cispo", ({ clip_ratio_low, clip_ratio_high }) => ({
    objective: { kind: "cispo", low: clip_ratio_low, high: clip_ratio_high },
    aggregation: { kind: "token_mean" },
  }));
  checkVerl("verl_compute_policy_loss_sapo", ({ tau_pos, tau_neg }) => ({
    objective: { kind: "sapo", temperatureUp: tau_pos, temperatureDown: tau_neg },
    aggregation: means,
  }));
});

function trlOptions(input: Any): PolicyLossOptions {
  const { loss_type, epsilon_low, epsilon_high, sapo, beta, ref, mask } = input;
  const objective: Objective = loss_type === "cispo"
    ? { kind: "cispo", low: Infinity, high: epsilon_high - 1 }
    : loss_type === "sapo"
    ? { kind: "sapo", temperatureUp: sapo[0], temperatureDown: sapo[1] }
    : { kind: "clip", low: epsilon_low, high: epsilon_high };
  const tokens = mask.flat().reduce((a: number, b: number) => a + b, 0);
  const forms: Record<string, Aggregation> = {
    grpo: { kind: "sequence_mean_of_means" },
    sapo: { kind: "sequence_mean_of_means" },
    bnpo: { kind: "token_sum", count: Math.max(tokens, 1) },
    dr_grpo: { kind: "token_sum", count: mask.length * input.max_completion_length },
    dapo: { kind: "token_sum", count: input.num_items_in_batch },
    cispo: { kind: "token_sum", count: input.num_items_in_batch },
    luspo: { kind: "sequence_mean_of_sums" },
  };
  return {
    objective,
    level: input.importance_sampling_level === "token" ? "token" : "sequence_mean",
    aggregation: forms[loss_type]!,
    countEmpty: true,
    ...(beta !== 0 && { kl: { weight: beta, reference: ref } }),
  };
}

Deno.test("policyLoss() equals TRL for every loss type, with and without KL", () => {
  each("trl_grpo_loss", (input, expected, id) => {
    const { old, new: now, mask } = input;
    const advantages = now.map((row: number[], i: number) => row.map(() => input.advantages[i]));
    const got = policyLoss({ old, now, mask, advantages }, trlOptions(input));
    const what = `${id} ${input.loss_type} ${input.importance_sampling_level}`;
    close(got.loss, expected.loss, `${what} loss`, 1e-5);
    closeTable(got.gradient, expected.grad, `${what} gradient`, 1e-5);
  });
});

Deno.test("klOf() equals verl's four forms", () => {
  each("verl_kl_penalty", ({ logprob, ref, kind }, expected, id) => {
    const got = logprob.map((row: number[], i: number) =>
      row.map((value, t) => {
        const drift = value - ref[i][t];
        return kind === "k3" ? boundedK3(drift) : klOf(kind as KlKind, drift);
      })
    );
    closeTable(got, expected, id);
  });
});

Deno.test("length shaping equals TRL and verl", () => {
  each("trl_soft_overlong", ({ length, max_completion_len, soft_punish_cache }, expected, id) => {
    const options = { tokensMax: max_completion_len, bufferTokens: soft_punish_cache };
    close(overlongPenalty(length, options), expected, id);
  });
  each("verl_dapo_overlong", (input, expected, id) => {
    const { length, max_resp_len: tokensMax, buffer_len: bufferTokens } = input;
    const options = { tokensMax, bufferTokens, factor: input.penalty_factor };
    close(unboundedOverlongPenalty(length, options), expected, id);
  });
  each("trl_cosine_scaled", ({ correct, length, max_len: lengthMax }, expected, id) => {
    close(cosineLengthReward(correct, { length, lengthMax }), expected, id);
  });
  each("trl_repetition_penalty", ({ text, ngram, max_penalty: penaltyMax }, expected, id) => {
    close(repetitionPenalty(text, { ngram, penaltyMax }), expected, id);
  });
});

Deno.test("load balance, z-loss and routing equal Hugging Face, with gradients", () => {
  each("moe_load_balancing_hf", ({ logits, top_k, mask }, expected, id) => {
    const counts = countRouting(logits, {
      expertsPerToken: top_k,
      ...(mask && { mask: mask.flat() }),
    });
    close(loadBalanceLoss(counts), expected.loss, `${id} loss`);
    for (const [layer, tokens] of logits.entries()) {
      for (const [t, row] of tokens.entries()) {
        const isCounted = !mask || mask.flat()[t] !== 0;
        const got = isCounted ? loadBalanceGradient(counts, row) : row.map(() => 0);
        closeTable([got], [expected.grad[layer][t]], `${id} gradient`);
      }
    }
  });
  each("moe_z_loss", ({ logits }, expected, id) => {
    const { loss, gradient } = zLoss(logits);
    close(loss, expected.loss, id);
    closeTable(gradient, expected.grad, id);
  });
  each("moe_topk_renorm", ({ logits, top_k }, expected, id) => {
    for (const [t, row] of logits.entries()) {
      const { experts, raw, normalized } = routeToken(row, top_k);
      assert.deepEqual(experts, expected.index[t], id);
      closeTable([raw, normalized], [expected.weight_raw[t], expected.weight_norm[t]], id);
    }
  });
});

Deno.test("addRouting() makes the loss of the whole, not a mean of losses", () => {
  const layer = (shift: number) =>
    [0, 1, 2, 3, 4, 5].map((t) => [0, 1, 2, 3].map((e) => Math.sin(t * 3 + e * 5 + shift)));
  const [a, b] = [layer(0), layer(9)];
  const options = { expertsPerToken: 2 };
  const whole = countRouting([[...a, ...b]], options);
  const parts = addRouting([countRouting([a], options), countRouting([b], options)]);
  close(loadBalanceLoss(parts), loadBalanceLoss(whole), "sum");
  assert.equal(activationEntropy([5, 5, 5, 5]), 1);
  assert.equal(activationEntropy([9, 0, 0]), 0);
});

Deno.test("policyLoss() has the gradient of its own loss (finite differences)", () => {
  const old = [[-1, -2, -0.5], [-0.3, -1.2]];
  const now = [[-1.1, -1.5, -0.6], [-0.2, -1.3]];
  const mask = [[1, 1, 0], [1, 1]];
  const advantages = [[0.7, 0.7, 0.7], [-1.1, -1.1]];
  const options = { ...dapoOptions(4), kl: { weight: 0.1, reference: old } };
  const { gradient } = policyLoss({ old, now, mask, advantages }, options);
  for (const [i, row] of now.entries()) {
    for (const t of row.keys()) {
      const at = (step: number) => {
        const moved = now.map((values, j) =>
          values.map((v, u) => j === i && u === t ? v + step : v)
        );
        return policyLoss({ old, now: moved, mask, advantages }, options).loss;
      };
      close(gradient[i]![t]!, (at(1e-6) - at(-1e-6)) / 2e-6, `[${i}][${t}]`, 1e-6);
    }
  }
});

Deno.test("selectGroups() drops groups that teach nothing and never counts a failed judge as 0", () => {
  const group = (...rewards: (number | null)[]) => ({ prompt: "p", rewards });
  const all = [group(1, 1, 1), group(0, 1), group(1, null, 1), group(null, 0, 1), group(0.5, null)];
  const { kept, dropped } = selectGroups(all);
  assert.deepEqual(kept, [all[1], all[3]]);
  assert.equal(dropped, 3);
});

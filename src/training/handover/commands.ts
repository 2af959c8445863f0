/** Command lines for other engines: one node, several by torchrun, Ray; and the known traps. */
import type { Engine } from "./rows.ts";

export interface CommandOptions {
  readonly engine: Engine;
  readonly purpose: "sft" | "rl";
  /** Name or folder of the model to start from. */
  readonly model: string;
  readonly freeze: {
    readonly vision: boolean;
    readonly adapter: boolean;
    readonly decoder: boolean;
  };
  readonly lora: boolean;
  readonly rate: number;
  readonly contextTokens: number;
  readonly answersPerPrompt: number;
  readonly answerTokens: number;
  readonly nodes: number;
  readonly gpusPerNode: number;
}

/** Files by name: `run.sh` (one node), `run_nodes.sh`, `run_ray.sh`, and helpers of the engine. */
export function commandFiles(options: CommandOptions): Record<string, string> {
  switch (options.engine) {
    case "ms-swift":
      return swiftFiles(options);
    case "llava":
      return llavaFiles(options);
    case "verl":
      return verlFiles(options);
  }
}

const header = '#!/bin/sh\nset -eu\ncd "$(dirname "$0")"\n';

/** A command over several lines. */
function command(
  start: string,
  flags: readonly (readonly [name: string, value: string])[],
): string {
  return [start, ...flags.map(([name, value]) => `  ${name}${value === "" ? "" : ` ${value}`}`)]
    .join(" \\\n") + "\n";
}

function swiftFlags(options: CommandOptions): [string, string][] {
  const { freeze } = options;
  const flags: [string, string][] = [
    ["--model", options.model],
    ["--model_type", "sail_vl2"],
    ["--dataset", "train.jsonl"],
    ["--tuner_type", options.lora ? "lora" : "full"],
    ["--freeze_vit", String(freeze.vision)],
    ["--freeze_aligner", String(freeze.adapter)],
    ["--freeze_llm", String(freeze.decoder)],
    ["--learning_rate", String(options.rate)],
    ["--lr_scheduler_type", "cosine"],
    ["--max_length", String(options.contextTokens)],
    ["--torch_dtype", "bfloat16"],
    ["--attn_impl", "flash_attn"],
    ["--deepspeed", "zero2"],
    ["--save_only_model", "false"],
    ["--output_dir", "output"],
  ];
  if (options.purpose === "sft") return flags;
  return [
    ["--rlhf_type", "grpo"],
    ...flags,
    ["--reward_funcs", "accuracy format soft_overlong"],
    ["--num_generations", String(options.answersPerPrompt)],
    ["--max_completion_length", String(options.answerTokens)],
    ["--soft_max_length", String(options.answerTokens)],
    ["--soft_cache_length", String(Math.ceil(options.answerTokens / 4))],
    ["--epsilon", "0.2"],
    ["--epsilon_high", "0.28"],
    ["--loss_type", "dapo"],
    ["--dynamic_sample", "true"],
    ["--max_resample_times", "3"],
    ["--overlong_filter", "true"],
    ["--beta", "0.0"],
    ["--use_vllm", "false"],
  ];
}

function swiftFiles(options: CommandOptions): Record<string, string> {
  const verb = options.purpose === "sft" ? "sft" : "rlhf";
  const flags = swiftFlags(options);
  const gpus = options.gpusPerNode;
  const nodes = [
    "# On every node: NODE_RANK=0 MASTER_ADDR=HOST0 ./run_nodes.sh",
    ': "${NODE_RANK:?rank of this node, from 0}" "${MASTER_ADDR:?address of node 0}"',
    `export NNODES="\${NNODES:-${options.nodes}}" NODE_RANK MASTER_ADDR ` +
    `MASTER_PORT="\${MASTER_PORT:-29500}" NPROC_PER_NODE="\${NPROC_PER_NODE:-${gpus}}"`,
    "",
  ].join("\n");
  const ray = [
    "# From the head of a running Ray cluster: one task per node starts that node's part.",
    "ray job submit --working-dir . -- python3 ray_nodes.py",
    "",
  ].join("\n");
  return {
    "run.sh": header + `export NPROC_PER_NODE="\${NPROC_PER_NODE:-${gpus}}"\n` +
      command(`swift ${verb}`, flags),
    "run_nodes.sh": header + nodes + command(`swift ${verb}`, flags),
    "run_ray.sh": header + ray,
    "ray_nodes.py": rayNodes(options.nodes, gpus),
  };
}

function rayNodes(nodes: number, gpus: number): string {
  return `"""Starts run_nodes.sh on every node of a Ray cluster and waits for all of them."""
import os
import subprocess

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

NODES, GPUS = int(os.environ.get("NNODES", "${nodes}")), int(os.environ.get("NPROC_PER_NODE", "${gpus}"))


@ray.remote(num_gpus=GPUS)
def address():
    return ray.util.get_node_ip_address()


@ray.remote(num_gpus=GPUS)
def part(rank, master):
    env = dict(os.environ, NODE_RANK=str(rank), MASTER_ADDR=master, NNODES=str(NODES), NPROC_PER_NODE=str(GPUS))
    return subprocess.run(["sh", "run_nodes.sh"], env=env).returncode


ray.init()
group = placement_group([{"GPU": GPUS, "CPU": 1}] * NODES, strategy="STRICT_SPREAD")
ray.get(group.ready())
on = lambda rank: PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
master = ray.get(address.options(scheduling_strategy=on(0)).remote())
codes = ray.get([part.options(scheduling_strategy=on(rank)).remote(rank, master) for rank in range(NODES)])
raise SystemExit(max(codes))
`;
}

function llavaFiles(options: CommandOptions): Record<string, string> {
  const parts = [
    ...(options.freeze.vision ? [] : ["mm_vision_tower"]),
    ...(options.freeze.adapter ? [] : ["mm_mlp_adapter"]),
    ...(options.freeze.decoder ? [] : ["mm_language_model"]),
  ];
  const flags: [string, string][] = [
    ["--model_name_or_path", options.model],
    ["--data_path", "train.json"],
    ["--image_folder", "."],
    ["--mm_tunable_parts", parts.join(",")],
    ["--learning_rate", String(options.rate)],
    ["--lr_scheduler_type", "cosine"],
    ["--model_max_length", String(options.contextTokens)],
    ["--bf16", "True"],
    ["--output_dir", "output"],
  ];
  const rendezvous = `--nnodes="\${NNODES:-${options.nodes}}" --node_rank="$NODE_RANK" ` +
    `--nproc_per_node="\${NPROC_PER_NODE:-${options.gpusPerNode}}" ` +
    `--master_addr="$MASTER_ADDR" --master_port="\${MASTER_PORT:-29500}"`;
  return {
    "run.sh": header +
      command(`torchrun --nproc_per_node=${options.gpusPerNode} llava/train/train_mem.py`, flags),
    "run_nodes.sh": header +
      ': "${NODE_RANK:?rank of this node, from 0}" "${MASTER_ADDR:?address of node 0}"\n' +
      command(`torchrun ${rendezvous} llava/train/train_mem.py`, flags),
    "run_ray.sh": header +
      "ray job submit --working-dir . -- python3 ray_nodes.py\n",
    "ray_nodes.py": rayNodes(options.nodes, options.gpusPerNode),
  };
}

function verlFlags(options: CommandOptions): [string, string][] {
  return ([
    ["algorithm.adv_estimator", "grpo"],
    ["data.train_files", "train.parquet"],
    ["data.val_files", "train.parquet"],
    ["data.image_key", "images"],
    ["data.max_prompt_length", String(options.contextTokens - options.answerTokens)],
    ["data.max_response_length", String(options.answerTokens)],
    ["custom_reward_function.path", "reward.py"],
    ["actor_rollout_ref.model.path", options.model],
    ["actor_rollout_ref.model.trust_remote_code", "True"],
    ["actor_rollout_ref.actor.optim.lr", String(options.rate)],
    ["actor_rollout_ref.actor.clip_ratio_low", "0.2"],
    ["actor_rollout_ref.actor.clip_ratio_high", "0.28"],
    ["actor_rollout_ref.actor.loss_agg_mode", "token-mean"],
    ["actor_rollout_ref.actor.use_kl_loss", "False"],
    ["actor_rollout_ref.rollout.name", "hf"],
    ["actor_rollout_ref.rollout.n", String(options.answersPerPrompt)],
    ["trainer.nnodes", String(options.nodes)],
    ["trainer.n_gpus_per_node", String(options.gpusPerNode)],
    ["trainer.default_local_dir", "output"],
  ] as const).map(([name, value]) => [`${name}=${value}`, ""]);
}

function verlFiles(options: CommandOptions): Record<string, string> {
  const train = command("python3 -m verl.trainer.main_ppo", verlFlags(options));
  const prepare = "[ -f train.parquet ] || python3 to_parquet.py\n";
  return {
    "run.sh": header + prepare + train,
    "run_nodes.sh": header +
      "# verl spreads by Ray: start it first, `ray start --head` on node 0, then on the others\n" +
      "# `ray start --address=HOST0:6379`; run this on node 0.\n" + prepare + train,
    "run_ray.sh": header + prepare +
      command(
        "ray job submit --working-dir . -- python3 -m verl.trainer.main_ppo",
        verlFlags(options),
      ),
    "to_parquet.py": TO_PARQUET,
    "reward.py": REWARD,
  };
}

const TO_PARQUET = `"""train.jsonl and its pictures become train.parquet, as verl reads it."""
import json

import pyarrow as pa
import pyarrow.parquet as pq

rows = [json.loads(line) for line in open("train.jsonl", encoding="utf-8")]
for row in rows:
    row["images"] = [{"bytes": open(path, "rb").read(), "path": path} for path in row["images"]]
pq.write_table(pa.Table.from_pylist(rows), "train.parquet")
`;

const REWARD =
  `"""0.9 for the right answer in the last box after the thought, 0.1 for the format."""
import re
from fractions import Fraction

BOX = re.compile(r"\\\\boxed\\{([^{}]*)\\}")


def number(text):
    try:
        return Fraction(text.replace(",", "").strip())
    except (ValueError, ZeroDivisionError):
        return None


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    match = re.fullmatch(r"\\s*<think>(.*?)</think>(.*)", solution_str, re.S)
    rest = match.group(2) if match else solution_str
    boxes = BOX.findall(rest)
    answer = boxes[-1].strip() if boxes else ""
    same = answer.lower() == ground_truth.strip().lower()
    if not same and number(answer) is not None:
        same = number(answer) == number(ground_truth)
    form = bool(match and match.group(1).strip() and len(boxes) == 1 and "think>" not in rest)
    return 0.9 * bool(boxes and same) + 0.1 * form
`;

/** What is known to go wrong, for the folder's README. */
export function trapsOf(
  { engine, purpose, contextTokens, answerTokens }: CommandOptions,
): string[] {
  const common = [
    "`<image>` written in a text was turned into `< image >`, or it would count as a picture.",
  ];
  if (engine === "ms-swift") {
    return [
      ...common,
      "`sail_vl2` needs transformers 4.51.3 or older.",
      "Rows without pictures got a blank one: the template fails on them otherwise.",
      "The template has no vLLM path (`--use_vllm false`) and no Megatron support.",
      "Packing is not known to work with this template, so it is off.",
      "The 30B-A3B model is not registered there.",
      "Every row names its system text; the template's own one is not the model's.",
      ...(purpose === "rl"
        ? ["`accuracy` gives 0 to option letters that it cannot parse: keep such rows out."]
        : []),
    ];
  }
  if (engine === "verl") {
    return [
      ...common,
      `Prompts may have ${contextTokens - answerTokens} tokens, answers ${answerTokens}.`,
      "Rollouts use `hf`: vLLM does not know this architecture.",
      "`reward.py` reads the box behind the thought only; verl's geo3k rule also pays for one inside.",
      "KL and its reference model are off, as in DAPO.",
    ];
  }
  return [
    ...common,
    "The trainer needs a model class for SAIL-VL2 in its tree; the data format is LLaVA's own.",
    "LLaVA-NeXT reads pictures relative to `--image_folder`.",
  ];
}

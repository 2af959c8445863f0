/** Rows of `train` in the table of flags. */
import type { FlagRow } from "./flags.ts";

const commands = ["train"] as const;

const integer = (least: number, most: number) => ({
  check: (value: string) => /^\d+$/.test(value) && Number(value) >= least && Number(value) <= most,
  expected: `an integer from ${least} to ${most}`,
});

const oneOf = (...choices: string[]) => ({
  value: choices.join("|"),
  check: (value: string) => choices.includes(value),
  expected: choices.join(", "),
});

export const trainFlags: readonly FlagRow[] = [
  {
    name: "model",
    commands,
    value: "DIR",
    repeated: true,
    help: "The model to start from, or to score; soup: a checkpoint, once per ingredient",
  },
  {
    name: "task",
    commands,
    value: "NAME[=N]",
    repeated: true,
    help: "Tasks of the makers with weights, for score with counts; default: of --recipe, or all",
  },
  {
    name: "recipe",
    commands,
    value: "NAME|FILE",
    help:
      "samples, export: mixture, seed, difficulty, rate, frozen parts of this recipe; score: difficulty",
  },
  {
    name: "count",
    commands,
    value: "N",
    ...integer(1, 10_000_000),
    help: "samples, export: how many samples (100); score: of each task (100)",
  },
  {
    name: "steps",
    commands,
    value: "N",
    ...integer(1, 100_000_000),
    help: "Steps instead of the recipe's; warm-up and decay in proportion",
  },
  { name: "from", commands, value: "STAGE", help: "pipeline: the first stage (the first of all)" },
  { name: "until", commands, value: "STAGE", help: "pipeline: the last stage (the last of all)" },
  {
    name: "steps-share",
    commands,
    value: "S",
    check: (value) => Number(value) > 0 && Number(value) <= 10,
    expected: "a number above 0, at most 10",
    help: "pipeline: of each stage's steps, for trials (1)",
  },
  {
    name: "page",
    commands,
    value: "HOST:PORT",
    help: "Show the run as a live page there; a port alone: on this machine only",
  },
  {
    name: "seed",
    commands,
    value: "N",
    ...integer(0, 2 ** 32 - 1),
    help: "Seed of the makers; default: the recipe's, or 1; score: one that no recipe has",
  },
  {
    name: "side",
    commands,
    value: "N",
    ...integer(32, 2048),
    help: "samples, export, score: side of the usual picture in pixels (224)",
  },
  {
    name: "fonts",
    commands,
    value: "DIR",
    help: "samples, export, score: also letter in the TrueType files of this folder",
  },
  {
    name: "held-out",
    commands,
    help: "samples, export, score: words and typefaces that training never draws",
  },
  {
    name: "items",
    commands,
    value: "FILE",
    repeated: true,
    help: "score: questions of another origin: JSON lines with pictures, or a digits.bin",
  },
  {
    name: "to",
    commands,
    ...oneOf("ms-swift", "llava", "verl"),
    help: "export: engine to write data and commands for",
  },
  {
    name: "purpose",
    commands,
    ...oneOf("sft", "rl"),
    help: "export: answers to learn, or prompts with solutions (sft; verl: rl)",
  },
  { name: "thinking", commands, help: "samples, export, score: ask for thoughts" },
  {
    name: "answer-tokens",
    commands,
    value: "N",
    ...integer(1, 32_768),
    help: "score: longest answer (128)",
  },
  {
    name: "tries",
    commands,
    value: "N",
    ...integer(1, 256),
    help: "score: also so many sampled answers of each question, for pass@1 and pass@N",
  },
  {
    name: "judge",
    commands,
    value: "URL",
    help: "Reinforcement: API in OpenAI's form that judges thoughts; default: rules",
  },
  { name: "judge-model", commands, value: "NAME", help: "Its model" },
  { name: "judge-key-file", commands, value: "FILE", help: "Its key; default: none" },
  {
    name: "judge-seconds",
    commands,
    value: "N",
    ...integer(1, 3600),
    help: "Longest time of a judgement; later ones do not count (30)",
  },
  { name: "json", commands, value: "FILE", help: "score: write the report there too" },
  { name: "lora", commands, help: "export: low-rank adapters instead of all weights" },
  {
    name: "train-nodes",
    commands,
    value: "N",
    ...integer(1, 4096),
    help: "export: machines (1)",
  },
  { name: "gpus", commands, value: "N", ...integer(1, 64), help: "export: GPUs of each (8)" },
  {
    name: "adapter",
    commands,
    value: "DIR",
    help: "merge: low-rank additions in PEFT's layout, to be added into the weights of --model",
  },
  {
    name: "weights",
    commands,
    value: "W,…",
    check: (value: string) => /^\d*\.?\d+(,\d*\.?\d+)*$/.test(value),
    expected: "numbers divided by commas",
    help: "soup: weight of each model; default: all the same",
  },
  {
    name: "evaluate",
    commands,
    value: "COMMAND",
    help: "soup: greedy; run with a folder as last argument, prints a score, the last line counts",
  },
  ...[["vision", "vision tower"], ["decoder", "decoder"]].flatMap(([part, title]) => [
    {
      name: `${part}-layers`,
      commands,
      value: "N",
      ...integer(1, 1000),
      help: `grow: layers of the ${title}`,
    },
    {
      name: `${part}-mlp`,
      commands,
      value: "N",
      ...integer(1, 1_000_000),
      help: `grow: width inside the MLPs of the ${title}`,
    },
  ]),
  { name: "force", commands, help: "soup: mix models without a common ancestor" },
];

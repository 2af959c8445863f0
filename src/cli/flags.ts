/**
 * The one table of command-line flags: parsing, validation, `--help` and the README's table come
 * from it. Adding a flag is adding a row.
 */
import { parseArgs } from "node:util";
import { variants } from "@/kernels/wasm/variants.ts";
import { parseSize } from "./sizes.ts";
import { trainFlags } from "./train_flags.ts";

/** Raised for a wrong command line; the message names flag, value and expectation. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export interface FlagRow {
  readonly name: string;
  readonly commands: readonly CommandName[];
  /** Placeholder of the value; a flag without one is a switch. */
  readonly value?: string;
  readonly repeated?: boolean;
  readonly help: string;
  readonly check?: (value: string) => boolean;
  readonly expected?: string;
}

export const commands = {
  serve: "OpenAI-compatible server and playground (default model: nano)",
  shard: "Hold experts of a sparse model and compute them for a server",
  cluster: "What fits where (plan); how shards are (status); drain one, rebalance all",
  chat: "Talk to a model in the terminal, with pictures",
  quantize: "Pack a checkpoint into q8 or q4 files that load in seconds",
  train: "Train a model by a recipe, with checkpoints and a log",
  doctor: "What this machine can do and which kernels run",
  parity: "Compare this build with golden fixtures",
  bench: "How fast this machine is, beside its limits and other engines",
} as const;

export type CommandName = keyof typeof commands;

/** What follows the name of a command that does several things. */
const actions: Partial<Record<CommandName, string>> = {
  cluster: "plan|status|drain NODE|rebalance",
  train: "RECIPE.json|NAME|recipes [NAME]|samples|export|soup|merge|grow|score|probe-experts",
  bench: "[train]",
};

const integer = (least: number, most: number) => ({
  check: (value: string) => /^\d+$/.test(value) && Number(value) >= least && Number(value) <= most,
  expected: `an integer from ${least} to ${most}`,
});

const oneOf = (...choices: string[]) => ({
  value: choices.join("|"),
  check: (value: string) => choices.includes(value),
  expected: choices.join(", "),
});

const running = ["serve", "chat"] as const;
const loading = [...running, "quantize"] as const;
/** Commands that compute with a model's weights, or convert them. */
const computing = [...loading, "shard"] as const;
/** Doctor says how much memory a model takes with these. */
const planning = [...running, "doctor"] as const;
/** Commands that say what would fit. */
const sizing = [...computing, "doctor", "cluster"] as const;

const flagTable: readonly FlagRow[] = [
  {
    name: "model",
    commands: sizing,
    value: "[NAME=]DIR",
    repeated: true,
    help: "Folder in Hugging Face layout, or packed; repeatable. Default: the shipped nano",
  },
  { name: "host", commands: ["serve"], value: "ADDRESS", help: "Listen address (127.0.0.1)" },
  { name: "port", commands: ["serve"], value: "N", ...integer(0, 65535), help: "Port (8080)" },
  {
    name: "backend",
    commands: [...computing, "parity", "doctor", "train", "bench"],
    ...oneOf("wasm", "webgpu", "reference"),
    help: "Executor of the model program (wasm)",
  },
  {
    name: "gpu-memory",
    commands: planning,
    value: "SIZE",
    check: (value: string) => parseSize(value) !== undefined,
    expected: "a size like 8GiB or 500MB",
    help: "Memory of the GPU for a model; what does not fit stays on wasm. Default: what it grants",
  },
  {
    name: "gpu-experts",
    commands: planning,
    value: "all|none|N",
    check: (value: string) => /^(all|none|\d{1,4})$/.test(value),
    expected: "all, none, or a number of layers",
    help: "Sparse layers whose experts are on the GPU, others stay on wasm; default: what fits",
  },
  {
    name: "variant",
    commands: [...computing, "doctor", "bench"],
    ...oneOf(...variants),
    help:
      "Kernels; default: the best this machine runs, with 64-bit addresses when they are needed",
  },
  {
    name: "quant",
    commands: [...sizing, "parity"],
    ...oneOf("none", "q8", "q4"),
    help: "Weights: as stored, or groups of 32 in 8 or 4 bits with int8 activations (none)",
  },
  {
    name: "preset",
    commands: [...sizing, "parity"],
    ...oneOf("mixed", "uniform"),
    help: "q4 with head, first and last layers in q8, or q4 in every linear (mixed)",
  },
  {
    name: "vision-quant",
    commands: [...sizing, "parity"],
    ...oneOf("none", "q8", "q4"),
    help: "Weights of the vision tower; default: q8 when --quant is q8 or q4",
  },
  {
    name: "verify",
    commands: running,
    help: "Check the hashes of a packed folder before loading it",
  },
  {
    name: "out",
    commands: ["quantize", "train"],
    value: "DIR",
    help: "Folder to write; resumed if begun (train: with --resume)",
  },
  { name: "resume", commands: ["train"], help: "Go on from the newest checkpoint in the folder" },
  {
    name: "part-mib",
    commands: ["quantize"],
    value: "N",
    ...integer(1, 65_536),
    help: "Size of its files, the most that an interruption loses (1024)",
  },
  {
    name: "threads",
    commands: [...computing, "parity", "doctor", "bench", "train"],
    value: "N",
    ...integer(1, 256),
    help: "Compute threads; default: one per core",
  },
  {
    name: "synthetic",
    commands: sizing,
    help: "Draw weights from a seed by tensor name; DIR needs config.json only (benchmarks)",
  },
  {
    name: "context",
    commands: planning,
    value: "N",
    ...integer(16, 16_777_216),
    help: "Tokens of prompt and answer together; default: the model's limit, at most 32768",
  },
  {
    name: "kv",
    commands: planning,
    ...oneOf("f32", "f16", "q8"),
    help: "KV cache format; default f32 with --quant none, else f16",
  },
  {
    name: "kv-mib",
    commands: planning,
    value: "N",
    ...integer(1, 1_048_576),
    help: "KV cache size in MiB; default: 16 full contexts, at most 512",
  },
  {
    name: "speculation",
    commands: running,
    ...oneOf("off", "lookup", "draft", "auto"),
    help: "Draft tokens by copying or by a draft model; auto: both, while it pays (auto)",
  },
  {
    name: "draft-model",
    commands: planning,
    value: "DIR",
    help: "Smaller checkpoint with the same tokenizer that drafts tokens; default: none",
  },
  {
    name: "answer-seconds",
    commands: ["serve"],
    value: "N",
    ...integer(0, 1_000_000),
    help: "Longest time of one answer, waiting included; 0 = no bound (3600)",
  },
  {
    name: "body-mib",
    commands: ["serve"],
    value: "N",
    ...integer(128, 1_048_576),
    help: "MiB of all request bodies in flight together (512)",
  },
  {
    name: "cache-dir",
    commands: ["serve"],
    value: "DIR",
    help: "Keep computed prompts and encoded tiles here across restarts; default: in memory only",
  },
  {
    name: "cache-size",
    commands: ["serve"],
    value: "BYTES",
    ...integer(1 << 20, Number.MAX_SAFE_INTEGER),
    help: "Bound of that folder (4 GiB)",
  },
  {
    name: "api-key-file",
    commands: ["serve"],
    value: "FILE",
    help: "Accepted bearer keys, one per line; default: no key is asked for",
  },
  {
    name: "api-key-file",
    commands: ["cluster"],
    value: "FILE",
    help: "The server's file of keys; its first one is used",
  },
  {
    name: "media-allow",
    commands: ["serve"],
    value: "HOST…",
    repeated: true,
    help: "Hosts whose pictures may be fetched, *.example.com allowed; default: none",
  },
  {
    name: "web-models",
    commands: ["serve"],
    ...oneOf("shipped", "all", "none"),
    help: "Models whose files pages may load, to run them in the browser (shipped)",
  },
  {
    name: "no-exif",
    commands: running,
    help: "Ignore EXIF orientation, as the reference implementation does",
  },
  {
    name: "max-tiles",
    commands: running,
    value: "N",
    ...integer(1, 40),
    help: "Tiles per picture; default: the model's preprocessor configuration",
  },
  {
    name: "msac",
    commands: running,
    ...oneOf("on", "off"),
    help: "Second tile grid for single pictures; default: the model's configuration",
  },
  {
    name: "anyres",
    commands: planning,
    help: "Keep pictures whole at their own size, with interpolated positions, instead of tiles",
  },
  {
    name: "cluster",
    commands: ["serve"],
    value: "ADDRESS,…",
    help:
      "Shards that compute the experts: HOST:PORT, unix:PATH, ws://…, or nats://…; default: none",
  },
  {
    name: "cluster-listen",
    commands: ["serve"],
    value: "ADDRESS",
    help: "Where shards that --join this server find it; default: nowhere",
  },
  {
    name: "replicas",
    commands: ["serve", "cluster", "bench"],
    value: "N",
    ...integer(1, 16),
    help: "Copies of every expert, on different shards (1)",
  },
  {
    name: "spare-copies",
    commands: ["serve"],
    value: "N",
    ...integer(0, 1024),
    help:
      "Further copies of each layer's busiest experts, where memory is left; default: an eighth",
  },
  {
    name: "local-experts",
    commands: ["serve"],
    ...oneOf("none", "some", "all"),
    help: "Experts of this process: none, those no shard answers for, from disk, or all (some)",
  },
  {
    name: "exact",
    commands: ["serve"],
    help: "Shards give the bits of a single process, which is the default; refuses --wire bf16",
  },
  {
    name: "wire",
    commands: ["serve"],
    ...oneOf("exact", "bf16"),
    help: "Rows between nodes: exact, or shorter ones that may change tokens (exact)",
  },
  {
    name: "mixed-classes",
    commands: ["serve"],
    help:
      "Shards may compute otherwise than this server (GPU and wasm): no promise of equal tokens",
  },
  {
    name: "listen",
    commands: ["shard"],
    value: "ADDRESS",
    help: "Where to wait for servers: HOST:PORT, unix:PATH, ws://… (127.0.0.1:7070)",
  },
  {
    name: "join",
    commands: ["shard"],
    value: "ADDRESS,…",
    help: "Servers to connect to (their --cluster-listen), or nats://… to be found by all of them",
  },
  {
    name: "advertise",
    commands: ["shard"],
    value: "ADDRESS",
    help: "Where others reach this shard, told to NATS; default: --listen, or the host's name",
  },
  {
    name: "name",
    commands: ["serve", "shard"],
    value: "NAME",
    help: "Name in the cluster; default: host name and port, or process",
  },
  {
    name: "experts",
    commands: ["shard"],
    value: "auto|RANGES",
    check: (value: string) => /^(auto|\d+(-\d+)?(,\d+(-\d+)?)*)$/.test(value),
    expected: "auto, or numbers and ranges like 0-63,80",
    help: "Experts of every layer that this node may hold; servers choose among them (auto: all)",
  },
  {
    name: "expert-mib",
    commands: ["shard"],
    value: "N",
    ...integer(1, 16_777_216),
    help: "Memory for experts in MiB; default: three quarters of what is free",
  },
  {
    name: "drain-seconds",
    commands: ["shard"],
    value: "N",
    ...integer(0, 86_400),
    help: "After a stop signal, longest wait for other shards to take its experts (60)",
  },
  {
    name: "secret-file",
    commands: ["serve", "shard"],
    value: "FILE",
    help: "Secret of the cluster, 32 bytes or more; needed beyond loopback",
  },
  {
    name: "cluster-cert",
    commands: ["serve", "shard"],
    value: "FILE",
    help: "PEM certificate of this node for mutual TLS between nodes",
  },
  { name: "cluster-key", commands: ["serve", "shard"], value: "FILE", help: "Its private key" },
  {
    name: "cluster-ca",
    commands: ["serve", "shard"],
    value: "FILE",
    help: "Authority that signed the certificates of all nodes",
  },
  {
    name: "allow-plaintext",
    commands: ["serve", "shard"],
    help: "Use the network without secret: others on it can read and change everything",
  },
  {
    name: "log",
    commands: ["serve", "shard"],
    ...oneOf("debug", "info", "warn", "error"),
    help: "Least level of the log on standard error (info)",
  },
  {
    name: "fixtures",
    commands: ["parity"],
    value: "DIR",
    help: "Folder of golden fixtures; default: the committed copy",
  },
  {
    name: "only",
    commands: ["parity"],
    value: "NAME,…",
    help: "Check only fixtures whose name contains one of these",
  },
  {
    name: "image",
    commands: ["chat"],
    value: "FILE",
    repeated: true,
    help: "Picture to ask about",
  },
  { name: "json", commands: ["doctor", "cluster"], help: "Print JSON" },
  {
    name: "tune",
    commands: ["doctor"],
    help: "Measure anew which kernels suit the GPU, and keep that for later starts",
  },
  {
    name: "url",
    commands: ["cluster"],
    value: "URL",
    help: "Front to ask (http://127.0.0.1:8080)",
  },
  {
    name: "cancel",
    commands: ["cluster"],
    help: "drain: let the node take experts again",
  },
  {
    name: "wait-seconds",
    commands: ["cluster"],
    value: "N",
    ...integer(0, 86_400),
    help: "drain, rebalance: longest wait for it to be done (120)",
  },
  {
    name: "nodes",
    commands: ["cluster"],
    value: "SIZE,…",
    help: "plan: boxes by memory, COUNTxSIZE:SPEED, e.g. 3x8GiB,16GiB:2 (4x8GiB)",
  },
  {
    name: "rtt-ms",
    commands: ["cluster"],
    value: "N",
    check: (value: string) => /^\d+(\.\d+)?$/.test(value) && Number(value) <= 10_000,
    expected: "a number from 0 to 10000",
    help: "plan: round trip between front and boxes (0.3)",
  },
  {
    name: "mbit",
    commands: ["cluster"],
    value: "N",
    ...integer(1, 1_000_000),
    help: "plan: Mbit/s of the front's link (1000)",
  },
  { name: "json", commands: ["bench"], value: "FILE", help: "Write the report as JSON" },
  { name: "svg", commands: ["bench"], value: "FILE", help: "Write the chart" },
  { name: "all", commands: ["bench"], help: "Also 8B, experts, batches and peers" },
  {
    name: "only",
    commands: ["bench"],
    value: "GLOB,…",
    help: "Only rows of these names, * for anything: 'decode/*,vit/*'",
  },
  {
    name: "repeats",
    commands: ["bench"],
    value: "N",
    ...integer(1, 100),
    help: "Samples of a row (3)",
  },
  {
    name: "peers",
    commands: ["bench"],
    value: "NAME,…",
    help:
      "Measure llama.cpp, wllama, onnxruntime-web too (train: pytorch); default: none, all with --all",
  },
  {
    name: "cache",
    commands: ["bench"],
    value: "DIR",
    help: "Folder of the peers and their files (.cache/bench)",
  },
  {
    name: "results",
    commands: ["bench"],
    value: "FILE",
    help: "Measure nothing: write benchmarks/RESULTS.md from a report",
  },
  {
    name: "shards",
    commands: ["bench"],
    value: "N",
    ...integer(1, 64),
    help: "Measure no rows: what a layer call over N shards of this machine takes",
  },
  {
    name: "profile",
    commands: ["bench"],
    help: "Measure no rows: show where the time of steps and prompts goes, by op",
  },
  { name: "smoke", commands: ["bench"], help: "Measure a shape without width: tests the bench" },
  ...trainFlags,
  { name: "help", commands: [...sizing, "parity", "bench", "train"], help: "Show this help" },
];

/** Parsed flags of one command: strings, lists for repeated flags, true for switches. */
export class Flags {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly positionals: readonly string[];

  constructor(values: Readonly<Record<string, unknown>>, positionals: readonly string[]) {
    this.#values = values;
    this.positionals = positionals;
  }

  string(name: string): string | undefined {
    const value = this.#values[name];
    return typeof value === "string" ? value : undefined;
  }

  number(name: string): number | undefined {
    const value = this.string(name);
    return value === undefined ? undefined : Number(value);
  }

  list(name: string): readonly string[] {
    const value = this.#values[name];
    return Array.isArray(value) ? value.map(String) : [];
  }

  on(name: string): boolean {
    return this.#values[name] === true;
  }
}

/** Parses and validates; throws UsageError. */
export function parseFlags(command: CommandName, args: readonly string[]): Flags {
  const rows = flagTable.filter((row) => row.commands.includes(command));
  const options = Object.fromEntries(rows.map((row) => [row.name, {
    type: row.value === undefined ? "boolean" as const : "string" as const,
    multiple: row.repeated ?? false,
  }]));
  let parsed;
  try {
    parsed = parseArgs({ args: [...args], options, strict: true, allowPositionals: true });
  } catch (error) {
    const why = error instanceof Error ? error.message.split(". ")[0] : String(error);
    throw new UsageError(`${why}; see: deno task ${command} --help`);
  }
  for (const row of rows) {
    for (const value of [parsed.values[row.name]].flat()) {
      if (typeof value === "string" && row.check && !row.check(value)) {
        throw new UsageError(`--${row.name} is "${value}", expected ${row.expected}`);
      }
    }
  }
  return new Flags(parsed.values, parsed.positionals);
}

/** Help text of one command, or the list of commands. */
export function helpText(command?: CommandName): string {
  if (command === undefined) {
    const lines = Object.entries(commands).map(([name, help]) => `  ${name.padEnd(10)} ${help}`);
    return `Usage: deno task COMMAND [flags]\n\n${lines.join("\n")}\n\n` +
      "Flags of a command: deno task COMMAND --help";
  }
  const rows = flagTable.filter((row) => row.commands.includes(command));
  const left = rows.map((row) => `--${row.name}${row.value ? ` ${row.value}` : ""}`);
  const width = Math.max(...left.map((text) => text.length));
  const usage = [command, actions[command] ?? []].flat().join(" ");
  const lines = rows.map((row, i) => `  ${left[i]!.padEnd(width)}  ${row.help}`);
  return `${commands[command]}\n\nUsage: deno task ${usage} [flags]\n\n${lines.join("\n")}`;
}

/** Markdown table of a command's flags, for the README. */
export function flagMarkdown(command: CommandName): string {
  const rows = flagTable.filter((row) => row.commands.includes(command) && row.name !== "help");
  const cell = (text: string) => text.replaceAll("|", "\\|");
  const lines = rows.map((row) =>
    `| \`--${row.name}${row.value ? ` ${cell(row.value)}` : ""}\` | ${cell(row.help)} |`
  );
  return ["| Flag | Meaning |", "| --- | --- |", ...lines].join("\n");
}

import assert from "node:assert/strict";
import { join } from "node:path";
import { THINKING_INSTRUCTION } from "@/chat/template.ts";
import { Canvas } from "@/data/drawing/canvas.ts";
import type { Sample } from "@/data/makers/sample.ts";
import { commandFiles, type CommandOptions } from "./commands.ts";
import { exportFolder } from "./export_folder.ts";
import { type Engine, rowOf, type RowOptions } from "./rows.ts";

const sample: Sample = {
  id: "arithmetic/1/7",
  task: "arithmetic",
  pictures: [new Canvas(2, 2, [255, 255, 255])],
  isClip: false,
  turns: [{ question: "What is <image>?", thought: "The image shows 2+3. 2+3=5.", answer: "5" }],
  marks: [],
  truth: { answerKind: "number", facts: {} },
};

const textOnly: Sample = {
  ...sample,
  id: "talk/1/0",
  task: "talk",
  pictures: [],
  turns: [{ question: "Hello", answer: "Hello." }],
};

const rows = (engine: Engine, purpose: "sft" | "rl", thinking = false): RowOptions => ({
  engine,
  purpose,
  thinking,
  systemText: "You are Nano.",
  pictures: ["images/a.png"],
});

Deno.test("rowOf() for ms-swift is exact, with answers or with a solution", () => {
  assert.deepEqual(rowOf(sample, rows("ms-swift", "sft")), {
    messages: [
      { role: "system", content: "You are Nano." },
      { role: "user", content: "<image>What is < image >?" },
      { role: "assistant", content: "5" },
    ],
    images: ["images/a.png"],
    channel: "arithmetic",
  });
  assert.deepEqual(rowOf(sample, rows("ms-swift", "rl", true)), {
    messages: [
      { role: "system", content: "You are Nano." },
      { role: "user", content: `<image>What is < image >?\n${THINKING_INSTRUCTION}` },
    ],
    images: ["images/a.png"],
    solution: "5",
    channel: "arithmetic",
  });
});

Deno.test("rowOf() for ms-swift gives text rows a blank picture", () => {
  const row = rowOf(textOnly, { ...rows("ms-swift", "sft"), pictures: [] });
  assert.deepEqual(row["images"], ["images/blank.png"]);
  assert.equal((row["messages"] as { content: string }[])[1]!.content, "<image>Hello");
});

Deno.test("rowOf() for LLaVA and verl is exact", () => {
  assert.deepEqual(rowOf(sample, rows("llava", "sft", true)), {
    id: "arithmetic/1/7",
    image: "images/a.png",
    conversations: [
      { from: "human", value: `<image>\nWhat is < image >?\n${THINKING_INSTRUCTION}` },
      { from: "gpt", value: "<think>The image shows 2+3. 2+3=5.</think>\\boxed{5}" },
    ],
  });
  assert.deepEqual(rowOf(sample, rows("verl", "rl")), {
    data_source: "flotilla/arithmetic",
    prompt: [
      { role: "system", content: "You are Nano." },
      { role: "user", content: "<image>What is < image >?" },
    ],
    images: ["images/a.png"],
    ability: "arithmetic",
    reward_model: { style: "rule", ground_truth: "5" },
    extra_info: { index: "arithmetic/1/7", answer_kind: "number", question: "What is <image>?" },
  });
});

const options: CommandOptions = {
  engine: "ms-swift",
  purpose: "sft",
  model: "models/x",
  freeze: { vision: true, adapter: false, decoder: true },
  lora: false,
  rate: 2e-4,
  contextTokens: 8192,
  answersPerPrompt: 8,
  answerTokens: 4096,
  nodes: 2,
  gpusPerNode: 8,
};

Deno.test("commandFiles() for ms-swift is exact", () => {
  const files = commandFiles(options);
  assert.equal(
    files["run.sh"],
    `#!/bin/sh
set -eu
cd "$(dirname "$0")"
export NPROC_PER_NODE="\${NPROC_PER_NODE:-8}"
swift sft \\
  --model models/x \\
  --model_type sail_vl2 \\
  --dataset train.jsonl \\
  --tuner_type full \\
  --freeze_vit true \\
  --freeze_aligner false \\
  --freeze_llm true \\
  --learning_rate 0.0002 \\
  --lr_scheduler_type cosine \\
  --max_length 8192 \\
  --torch_dtype bfloat16 \\
  --attn_impl flash_attn \\
  --deepspeed zero2 \\
  --save_only_model false \\
  --output_dir output
`,
  );
  assert.match(
    files["run_nodes.sh"]!,
    /NNODES="\$\{NNODES:-2\}" NODE_RANK MASTER_ADDR MASTER_PORT=/,
  );
  const rl = commandFiles({ ...options, purpose: "rl" })["run.sh"]!;
  assert.match(rl, /swift rlhf \\\n {2}--rlhf_type grpo/);
  for (const flag of ["epsilon_high 0.28", "loss_type dapo", "use_vllm false", "beta 0.0"]) {
    assert.ok(rl.includes(`--${flag}`), flag);
  }
});

Deno.test("commandFiles() are valid shell for every engine", async () => {
  for (const engine of ["ms-swift", "llava", "verl"] as const) {
    for (const [name, body] of Object.entries(commandFiles({ ...options, engine }))) {
      if (!name.endsWith(".sh")) continue;
      const shell = new Deno.Command("sh", { args: ["-n"], stdin: "piped", stderr: "piped" })
        .spawn();
      const writer = shell.stdin.getWriter();
      await writer.write(new TextEncoder().encode(body));
      await writer.close();
      const { success, stderr } = await shell.output();
      assert.ok(success, `${engine} ${name}: ${new TextDecoder().decode(stderr)}`);
    }
  }
});

Deno.test("exportFolder() writes a whole folder or none", async () => {
  const root = await Deno.makeTempDir();
  const out = join(root, "swift");
  const given = { ...options, samples: [sample, textOnly], total: 2, thinking: false };
  const count = await exportFolder({ ...given, systemText: "S", out });
  assert.equal(count, 2);
  const lines = (await Deno.readTextFile(join(out, "train.jsonl"))).trim().split("\n");
  for (const line of lines) {
    for (const path of JSON.parse(line).images) {
      assert.ok((await Deno.stat(join(out, path))).isFile);
    }
  }
  assert.match(await Deno.readTextFile(join(out, "README.md")), /transformers 4\.51\.3 or older/);
  await assert.rejects(exportFolder({ ...given, systemText: "S", out }), /exists/);
  const wrong = { ...given, engine: "verl" as const, systemText: "S", out: join(root, "verl") };
  await assert.rejects(exportFolder(wrong), /reinforcement rows only/);
  assert.deepEqual([...Deno.readDirSync(root)].map(({ name }) => name), ["swift"]);
  await Deno.remove(root, { recursive: true });
});

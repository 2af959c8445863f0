/** llama.cpp on this machine's processor, measured by its own `llama-bench`. */
import { join } from "node:path";
import { OperatingError } from "@/errors.ts";
import { DECODE_TOKENS, PREFILL_TOKENS } from "../measurements.ts";
import { summarize } from "../report.ts";
import { decoderShape, type GgufFormat, writeGguf } from "./gguf.ts";
import { exists, missingPeer, type Peer, type PeerContext, type PeerTask } from "./peer.ts";

const PROGRAM = "llama-bench";

/** The program in the cache folder, else on the path. */
async function findProgram({ cacheFolder }: PeerContext): Promise<string | undefined> {
  const cached = join(cacheFolder, PROGRAM);
  for (const program of [cached, PROGRAM]) {
    try {
      const command = new Deno.Command(program, {
        args: ["--help"],
        stdout: "null",
        stderr: "null",
      });
      if ((await command.output()).success) return program;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return undefined;
}

/** The model file of a task, written once. */
export async function ggufFile(context: PeerContext, task: PeerTask): Promise<string> {
  const format: GgufFormat = task.format === "q4" ? "q4_0" : "q8_0";
  const path = join(context.cacheFolder, `${task.shape}-${format}.gguf`);
  if (await exists(path)) return path;
  context.progress(`writing ${path}`);
  await Deno.mkdir(context.cacheFolder, { recursive: true });
  await writeGguf(path, { shape: decoderShape(task.config.decoder), format });
  return path;
}

interface BenchEntry {
  readonly n_prompt: number;
  readonly n_gen: number;
  readonly samples_ts: readonly number[];
}

export const llamaCpp: Peer = {
  name: "llama.cpp",

  async check(context) {
    if (await findProgram(context)) return;
    throw missingPeer(
      "llama.cpp",
      `no ${PROGRAM} on the path or in ${context.cacheFolder}; benchmarks/README.md has the recipe`,
    );
  },

  async measure(context, task) {
    const program = (await findProgram(context))!;
    const model = await ggufFile(context, task);
    const { threads, repeats } = context;
    const options = { m: model, t: threads, p: PREFILL_TOKENS, n: DECODE_TOKENS, r: repeats };
    const args = Object.entries(options).flatMap(([flag, value]) => [`-${flag}`, `${value}`]);
    context.progress(`llama.cpp ${task.shape} ${task.format}`);
    const command = new Deno.Command(program, { args: [...args, "-o", "json"], stdin: "null" });
    const { success, stdout, stderr } = await command.output();
    if (!success) {
      throw new OperatingError("unavailable", `Cannot compare with llama.cpp: ${PROGRAM} failed`, {
        detail: new TextDecoder().decode(stderr).slice(-2000),
      });
    }
    const entries = JSON.parse(new TextDecoder().decode(stdout)) as BenchEntry[];
    return entries.map((entry) => ({
      of: entry.n_gen > 0 ? "decode" as const : "prefill" as const,
      unit: "tok/s",
      better: "more" as const,
      samples: summarize(entry.samples_ts),
    }));
  },
};

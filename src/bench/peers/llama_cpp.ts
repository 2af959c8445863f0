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
  readonly samples_ts: readonly number[];
}

/** Tokens per second of each repeat of one test. */
async function llamaBench(
  program: string,
  options: { m: string; t: number; p: number; n: number; r: number },
): Promise<readonly number[]> {
  const args = Object.entries(options).flatMap(([flag, value]) => [`-${flag}`, `${value}`]);
  const command = new Deno.Command(program, { args: [...args, "-o", "json"], stdin: "null" });
  const { success, stdout, stderr } = await command.output();
  if (!success) {
    throw new OperatingError("unavailable", `Cannot compare with llama.cpp: ${PROGRAM} failed`, {
      detail: new TextDecoder().decode(stderr).slice(-2000),
    });
  }
  const [entry] = JSON.parse(new TextDecoder().decode(stdout)) as BenchEntry[];
  return entry!.samples_ts;
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

  async open(context, task) {
    const program = (await findProgram(context))!;
    const { threads: t, repeats } = context;
    const m = await ggufFile(context, task);
    return {
      async measure() {
        context.progress(`llama.cpp ${task.shape} ${task.format}`);
        const speeds = await llamaBench(program, { m, t, p: PREFILL_TOKENS, n: 0, r: repeats });
        return [{ of: "prefill", samples: summarize(speeds) }];
      },
      async decode() {
        const [speed] = await llamaBench(program, { m, t, p: 0, n: DECODE_TOKENS, r: 1 });
        return speed!;
      },
      async [Symbol.asyncDispose]() {},
    };
  },
};

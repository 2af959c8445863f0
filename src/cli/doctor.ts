/** `doctor`: what this machine can do, which kernels run and why, what is missing. */
import { openBackend } from "@/kernels/open.ts";
import type { BackendDescription } from "@/kernels/backend.ts";
import type { Flags } from "./flags.ts";
import { printLine } from "./terminal.ts";

interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

interface Report {
  readonly deno: string;
  readonly platform: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernels: BackendDescription | undefined;
  readonly findings: readonly Finding[];
}

async function kernels(flags: Flags): Promise<BackendDescription | Error> {
  const [threads, variant] = [flags.number("threads"), flags.string("variant")];
  try {
    const backend = await openBackend({
      name: "wasm",
      ...(threads && { threads }),
      ...(variant && { variant: variant as "simd" }),
    });
    await backend.close();
    return backend.description;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

async function hasProgram(name: string): Promise<boolean> {
  try {
    return (await new Deno.Command(name, { args: ["-version"], stdout: "null", stderr: "null" })
      .output()).success;
  } catch (error) {
    // Deno grants only programs that it found at start.
    const { NotFound, NotCapable } = Deno.errors;
    if (error instanceof NotFound || error instanceof NotCapable) return false;
    throw error;
  }
}

async function examine(flags: Flags): Promise<Report> {
  const description = await kernels(flags);
  const failed = description instanceof Error;
  const shared = typeof SharedArrayBuffer !== "undefined";
  const nano = await Deno.stat(new URL("../../models/nano/config.json", import.meta.url))
    .then(() => true, () => false);
  const ffmpeg = await hasProgram("ffmpeg");
  const findings: Finding[] = [
    {
      name: "kernels",
      ok: !failed,
      detail: failed ? description.message : `${description.variant}: ${description.reason}`,
    },
    {
      name: "threads",
      ok: shared && navigator.hardwareConcurrency > 1,
      detail: shared
        ? `${navigator.hardwareConcurrency} cores, shared memory available`
        : "no shared memory: one thread only",
    },
    { name: "nano", ok: nano, detail: nano ? "shipped model found" : "models/nano is missing" },
    {
      name: "video files",
      ok: ffmpeg,
      detail: ffmpeg ? "ffmpeg found" : "ffmpeg is not installed: frame lists and GIF/WebP only",
    },
    { name: "webgpu", ok: false, detail: "no WebGPU backend in this build" },
  ];
  return {
    deno: Deno.version.deno,
    platform: `${Deno.build.os} ${Deno.build.arch}`,
    cores: navigator.hardwareConcurrency,
    memoryGiB: Math.round(Deno.systemMemoryInfo().total / 2 ** 30),
    kernels: failed ? undefined : description,
    findings,
  };
}

export async function doctor(flags: Flags): Promise<number> {
  const report = await examine(flags);
  if (flags.on("json")) printLine(JSON.stringify(report, null, 2));
  else {
    printLine(
      `Deno ${report.deno} on ${report.platform}, ${report.cores} cores, ` +
        `${report.memoryGiB} GiB`,
    );
    for (const { name, ok, detail } of report.findings) {
      printLine(`${ok ? "ok  " : "--  "}${name.padEnd(12)} ${detail}`);
    }
    if (report.kernels) printLine(`    numeric class ${report.kernels.numericClass}`);
  }
  return report.kernels ? 0 : 1;
}

/** Facts of the machine that a report names: processor, load, commit, peak memory. Never fails. */

/** The text of a file or a program's output; undefined where it cannot be had. */
async function readable(read: () => Promise<string>): Promise<string | undefined> {
  try {
    return (await read()).trim();
  } catch (error) {
    if (error instanceof Error) return undefined;
    throw error;
  }
}

/** Processor name; the architecture where the system does not tell. */
export async function processorName(): Promise<string> {
  const text = await readable(() => Deno.readTextFile("/proc/cpuinfo"));
  const name = /^model name\s*:\s*(.+)$/m.exec(text ?? "")?.[1];
  return name ?? `${Deno.build.os} ${Deno.build.arch}`;
}

/** One-minute load average; 0 where the system has none. */
export function loadAverage(): number {
  return Deno.loadavg()[0] ?? 0;
}

/** Short hash of the checked-out commit, marked when files differ from it. */
export async function commitName(folder: string): Promise<string> {
  const git = (...args: string[]) =>
    readable(async () => {
      const command = new Deno.Command("git", { args, cwd: folder, stderr: "null" });
      const { success, stdout } = await command.output();
      if (!success) throw new Deno.errors.NotFound("no repository");
      return new TextDecoder().decode(stdout);
    });
  const hash = await git("rev-parse", "--short=10", "HEAD");
  if (hash === undefined) return "unknown";
  const changed = await git("status", "--porcelain", "--", "src", "wasm", "kernels-rs");
  return changed ? `${hash}+changes` : hash;
}

/** Most memory that this process ever held, in bytes; what it holds now where only that is known. */
export async function peakMemoryBytes(): Promise<number> {
  const status = await readable(() => Deno.readTextFile("/proc/self/status"));
  const peakKb = /^VmHWM:\s+(\d+) kB/m.exec(status ?? "")?.[1];
  return peakKb === undefined ? Deno.memoryUsage().rss : Number(peakKb) * 1024;
}

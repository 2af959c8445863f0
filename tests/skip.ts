/**
 * Tests that need a tool the machine may lack. Such a test is registered as ignored, and its name
 * carries the tool and the reason, which `run.ts` reads, lists and counts.
 */

/** A tool (or property of the machine), and why it is missing; undefined when it is there. */
export interface Probe {
  readonly tool: string;
  readonly missing: string | undefined;
}

/** Registers a test, ignored when one of its tools is missing. */
export function optionalTest(
  options: Omit<Deno.TestDefinition, "fn" | "ignore"> & { needs: readonly Probe[] },
  fn: Deno.TestDefinition["fn"],
): void {
  const { needs, name, ...rest } = options;
  const lost = needs.find(({ missing }) => missing !== undefined);
  if (!lost) Deno.test({ ...rest, name, fn });
  else Deno.test({ ...rest, name: skippedName(name, lost), ignore: true, fn });
}

/** The name of an ignored test, e.g. "page() draws [skipped: chromium: not installed]". */
export function skippedName(name: string, { tool, missing }: Probe): string {
  return `${name} [skipped: ${tool}: ${missing}]`;
}

/** The inverse of `skippedName`; a test ignored by hand has no tool. */
export function parseSkippedName(fullName: string): { name: string } & Probe {
  const parts = /^(.*) \[skipped: ([^:]+): (.*)\]$/s.exec(fullName);
  if (parts) return { name: parts[1]!, tool: parts[2]!, missing: parts[3]! };
  return { name: fullName, tool: "none", missing: "ignored without a reason" };
}

/** Looks for a program by running it with `arguments` (default: its version). */
export async function probeCommand(
  tool: string,
  options: { commands?: readonly string[]; arguments?: readonly string[] } = {},
): Promise<Probe & { readonly command: string | undefined }> {
  const { commands = [tool], arguments: args = ["--version"] } = options;
  for (const command of commands) {
    try {
      const process = new Deno.Command(command, {
        args: [...args],
        stdin: "null",
        stdout: "null",
        stderr: "null",
      });
      if ((await process.output()).success) return { tool, missing: undefined, command };
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return { tool, missing: `no working ${commands.join(" or ")}`, command: undefined };
}

/** Looks for a file or folder of the repository. */
export async function probePath(tool: string, path: string | URL): Promise<Probe> {
  try {
    await Deno.stat(path);
    return { tool, missing: undefined };
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return { tool, missing: "not built" };
  }
}

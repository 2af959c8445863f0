/** What the stages of deploy/Dockerfile start, for tests of the files that use them. */
import type { CommandName } from "@/cli/flags.ts";
import { root } from "../server/server_process.ts";

export interface Image {
  /** Name of the stage, and how compose and Kubernetes call what is built from it. */
  readonly target: string;
  readonly tag: string;
  /** Words of its ENTRYPOINT behind `deno`. */
  readonly words: readonly string[];
  readonly command: CommandName;
  /** Flags that the image itself gives to the command. */
  readonly args: readonly string[];
  readonly port: number;
  readonly health: string;
}

/** Stages with an ENTRYPOINT, by tag, in the order of the file. */
export async function images(): Promise<Map<string, Image>> {
  const stages = (await Deno.readTextFile(`${root}deploy/Dockerfile`)).split(/^FROM /m).slice(1);
  const found = new Map<string, Image>();
  for (const stage of stages) {
    const entry = /^ENTRYPOINT (\[[^\]]*\])/m.exec(stage.replaceAll("\\\n", ""))?.[1];
    if (entry === undefined) continue;
    const words = (JSON.parse(entry) as string[]).slice(1);
    const [command, ...args] = words.slice(words.indexOf("src/main.ts") + 1);
    const target = /^\S+ AS (\S+)/.exec(stage)![1]!;
    const tag = target === "server" ? "flotilla" : `flotilla-${target}`;
    found.set(tag, {
      ...{ target, tag, words, command: command as CommandName, args },
      port: Number(/^EXPOSE (\d+)/m.exec(stage)![1]),
      health: /HEALTHCHECK[^\n]*\n\s+CMD ([^\n]*)/.exec(stage)![1]!,
    });
  }
  return found;
}

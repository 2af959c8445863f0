/** The flags that name a judge of thoughts. */
import { OperatingError } from "@/errors.ts";
import { HttpJudge } from "@/training/policy/http_judge.ts";
import type { ThoughtJudge } from "@/training/policy/thought_judge.ts";
import { type Flags, UsageError } from "./flags.ts";
import { printError } from "./terminal.ts";

const SECONDS_DEFAULT = 30;
const CONCURRENCY = 8;

/** The judge that `--judge` names; undefined: the rules. */
export async function judgeFlags(flags: Flags): Promise<ThoughtJudge | undefined> {
  const url = flags.string("judge");
  const keyFile = flags.string("judge-key-file");
  if (url === undefined) return undefined;
  if (!URL.canParse(url)) throw new UsageError(`--judge ${url}: expected a URL, as http://host/v1`);
  const model = flags.string("judge-model");
  if (model === undefined) {
    throw new UsageError("--judge-model is missing, expected a model's name");
  }
  return new HttpJudge({
    url,
    model,
    key: keyFile === undefined ? undefined : await readKey(keyFile),
    timeoutMs: 1000 * (flags.number("judge-seconds") ?? SECONDS_DEFAULT),
    concurrency: CONCURRENCY,
    fetch,
    onFailure: (reason) => printError(`A thought was not judged: ${reason}`),
  });
}

async function readKey(path: string): Promise<string> {
  try {
    return (await Deno.readTextFile(path)).trim();
  } catch (cause) {
    throw new OperatingError("invalid_request", `Cannot read the judge's key in ${path}`, {
      cause,
    });
  }
}

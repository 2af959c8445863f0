/**
 * The program that measures one group in a process of its own, so that peak memory, compiled code
 * and crashes are the group's alone. It reads the task as one JSON line, then a line for each
 * moment that it asks for; it writes messages as JSON lines.
 */
import { systemClock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import { type GroupMessage, type GroupOptions, runGroup } from "./group.ts";
import type { Moment } from "./limits.ts";
import type { Measurement } from "./plan.ts";
import { jsonLine, readJsonLines } from "./lines.ts";

/** First line of standard input. */
export type GroupTask = Pick<GroupOptions, "group" | "shapesFolder" | "cacheFolder" | "backend">;

/** A line of standard output; "ask" is answered with a line that is a `Moment`. */
export type ProcessMessage =
  | GroupMessage
  | { readonly kind: "ask"; readonly beside: Measurement["kind"] }
  | { readonly kind: "failed"; readonly message: string };

async function main(): Promise<void> {
  const input = readJsonLines(Deno.stdin.readable);
  const tell = (message: ProcessMessage) => {
    const line = jsonLine(message);
    for (let done = 0; done < line.length;) done += Deno.stdout.writeSync(line.subarray(done));
  };
  const next = async <T>(): Promise<T> => (await input.next()).value as T;
  const task = await next<GroupTask>();
  const moment = async (beside: Measurement["kind"]) => {
    tell({ kind: "ask", beside });
    return await next<Moment>();
  };
  try {
    await runGroup({ ...task, moment, clock: systemClock, tell });
  } catch (error) {
    if (!(error instanceof OperatingError)) throw error;
    tell({ kind: "failed", message: error.message });
  }
  await input.return(undefined);
}

if (import.meta.main) await main();

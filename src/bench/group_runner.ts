/** Starts a group's process, answers its questions about the moment and passes on what it says. */
import { fileURLToPath } from "node:url";
import { OperatingError } from "@/errors.ts";
import type { GroupMessage } from "./group.ts";
import type { GroupTask, ProcessMessage } from "./group_process.ts";
import type { Moment } from "./limits.ts";
import { jsonLine, readJsonLines } from "./lines.ts";
import type { Measurement } from "./plan.ts";

const programUrl = new URL("./group_process.ts", import.meta.url);
/** Last characters of a crashed process's standard error in the message. */
const ERROR_TAIL_CHARS = 600;

/** Runs the group to its end. Throws OperatingError when it fails or its process ends early. */
export async function runGroupProcess(
  task: GroupTask,
  outside: {
    moment: (beside: Measurement["kind"]) => Promise<Moment>;
    tell: (message: GroupMessage) => void;
  },
): Promise<void> {
  await using child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--allow-all", fileURLToPath(programUrl)],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const errors = new Response(child.stderr).text();
  const input = child.stdin.getWriter();
  let failure: string | undefined;
  // Whether the process is there to read; how it ended is asked below.
  const send = async (value: unknown) => await input.write(jsonLine(value)).catch(() => {});
  await send(task);
  for await (const line of readJsonLines(child.stdout)) {
    const message = line as ProcessMessage;
    if (message.kind === "ask") await send(await outside.moment(message.beside));
    else if (message.kind === "failed") failure = message.message;
    else outside.tell(message);
  }
  const { success, code } = await child.status;
  if (success && failure === undefined) return;
  const { shape, format } = task.group;
  const reason = failure ?? `its process ended with code ${code}: ` +
      (await errors).trim().slice(-ERROR_TAIL_CHARS);
  throw new OperatingError("unavailable", `Cannot measure ${shape} in ${format}: ${reason}`);
}

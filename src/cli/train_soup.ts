/** `train soup`: averages checkpoints, all alike, by weights, or greedily by a scoring command. */
import { systemClock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import { chooseGreedily, type Ingredient, openIngredient, writeSoup } from "@/training/soup.ts";
import { type Flags, UsageError } from "./flags.ts";
import { outFolder } from "./folder_flags.ts";
import { ProgressLine } from "./progress_line.ts";
import { printLine } from "./terminal.ts";

export async function mixSoup(flags: Flags): Promise<number> {
  const out = outFolder(flags);
  const folders = flags.list("model");
  if (folders.length < 2) throw new UsageError("--model is given once, a soup needs two or more");
  const force = flags.on("force");
  const models: Ingredient[] = [];
  try {
    for (const folder of folders) models.push(await openIngredient(folder));
    const evaluate = flags.string("evaluate");
    const members = evaluate === undefined
      ? models.map((_, i) => i)
      : await chooseMembers(models, { command: evaluate, out, force });
    const weights = flags.string("weights")?.split(",").map(Number);
    if (weights && evaluate) throw new UsageError("--weights and --evaluate exclude each other");
    const { likeness } = await writeSoup({
      models: members.map((i) => models[i]!),
      ...(weights && { weights }),
      out,
      force,
      onProgress: new ProgressLine("mixing", systemClock).update,
    });
    const used = members.map((i, at) => `${folders[i]} (likeness ${likeness[at]!.toFixed(4)})`);
    printLine(`${out}: average of ${used.join(", ")}`);
    return 0;
  } finally {
    for (const { checkpoint } of models) checkpoint.close();
  }
}

async function chooseMembers(
  models: readonly Ingredient[],
  { command, out, force }: { command: string; out: string; force: boolean },
): Promise<readonly number[]> {
  const scores: number[] = [];
  for (const { folder } of models) {
    scores.push(await scoreOf(command, folder));
    printLine(`${folder}: ${scores.at(-1)}`);
  }
  const trial = `${out}.trial`;
  const { members, score, steps } = await chooseGreedily(scores, async (members) => {
    await Deno.remove(trial, { recursive: true }).catch(() => undefined);
    await writeSoup({ models: members.map((i) => models[i]!), out: trial, force });
    try {
      return await scoreOf(command, trial);
    } finally {
      await Deno.remove(trial, { recursive: true });
    }
  });
  for (const { candidate, score, kept } of steps.slice(1)) {
    printLine(`with ${models[candidate]!.folder}: ${score}, ${kept ? "kept" : "left out"}`);
  }
  printLine(`best average: ${score}`);
  return members;
}

/** Last line of what the command prints for a folder, as a number. */
async function scoreOf(command: string, folder: string): Promise<number> {
  const [program, ...args] = command.split(/\s+/).filter((part) => part !== "");
  const { success, stdout } = await new Deno.Command(program!, {
    args: [...args, folder],
    stdout: "piped",
    stderr: "inherit",
  }).output();
  const last = new TextDecoder().decode(stdout).trim().split("\n").at(-1)!;
  const score = Number(last);
  if (success && last !== "" && Number.isFinite(score)) return score;
  throw new OperatingError(
    "invalid_request",
    `Cannot score ${folder}: "${command}" ended with "${last}", expected a number`,
  );
}

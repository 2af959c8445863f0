/**
 * `train score`: greedy answers of a model to the makers' questions through the serving engine. The
 * last line printed is one number, the mean accuracy over the tasks, as `soup --evaluate` wants it.
 */
import { systemClock } from "@/clock.ts";
import { parseTaskName, type TaskName, taskNames } from "@/data/makers/maker_registry.ts";
import type { Sample } from "@/data/makers/sample.ts";
import { planMemory } from "@/engine/memory_plan.ts";
import { openBackend } from "@/kernels/open.ts";
import { loadModel } from "@/model/load.ts";
import { openModelText } from "@/training/model_text.ts";
import { Answerer, rolloutBounds, rolloutSequences } from "@/training/rollouts/answerer.ts";
import { openRecipe } from "@/training/recipes/recipe_file.ts";
import {
  scoreSamples,
  scoreTask,
  type ScoringOptions,
  type TaskScore,
} from "@/training/rollouts/task_scores.ts";
import { readConfig } from "@/model/open_checkpoint.ts";
import { textTable } from "@/text_table.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { backendFlags } from "./backend_flags.ts";
import { type Flags, UsageError } from "./flags.ts";
import { digitSamples, itemSamples } from "./held_out_items.ts";
import { ProgressLine } from "./progress_line.ts";
import { printLine } from "./terminal.ts";
import { makerSettings } from "./train_makers.ts";

const COUNT_DEFAULT = 100;
const ANSWER_TOKENS_DEFAULT = 128;
/** No recipe draws under it, so that no sample was trained on. */
const SEED_DEFAULT = 1_000_003;

interface Wanted {
  readonly task: TaskName;
  readonly count: number;
}

/** The model is `--model`, or the last argument. */
export async function score(flags: Flags, args: readonly string[]): Promise<number> {
  const folders = [...flags.list("model"), ...args];
  const [folder] = folders;
  if (folder === undefined || folders.length > 1) {
    throw new UsageError("Say which model, once: train score --model DIR");
  }
  const items = await readItems(flags);
  const wanted = items.size > 0 && flags.list("task").length === 0 ? [] : wantedTasks(flags);
  const total = wanted.reduce((sum, { count }) => sum + count, 0) +
    items.values().reduce((sum, samples) => sum + samples.length, 0);
  const where = flags.string("recipe");
  const settings = makerSettings(flags, where === undefined ? undefined : await openRecipe(where));
  const progress = new ProgressLine("answering", systemClock);
  let done = 0;
  const scores = await withAnswerer(flags, folder, async (opened) => {
    const options: ScoringOptions = {
      ...opened,
      settings,
      seed: flags.number("seed") ?? SEED_DEFAULT,
      thinking: flags.on("thinking"),
      answerTokensMax: flags.number("answer-tokens") ?? ANSWER_TOKENS_DEFAULT,
      tries: flags.number("tries") ?? 0,
      onProgress: (count) => progress.update(done += count, total),
    };
    const scores: TaskScore[] = [];
    for (const { task, count } of wanted) scores.push(await scoreTask(task, count, options));
    for (const [task, samples] of items) scores.push(await scoreSamples(task, samples, options));
    return scores;
  });
  const mean = scores.reduce((sum, { accuracy }) => sum + accuracy, 0) / scores.length;
  const path = flags.string("json");
  if (path !== undefined) await writeScores(path, flags, { folder, mean, scores });
  for (const line of scoreTable(scores)) printLine(line);
  printLine(mean.toFixed(4));
  return 0;
}

/** Samples of `--items` by task, at most `--count` of each. */
async function readItems(flags: Flags): Promise<Map<string, Sample[]>> {
  const byTask = new Map<string, Sample[]>();
  const countMax = flags.number("count") ?? Infinity;
  for (const path of flags.list("items")) {
    const samples = path.endsWith(".jsonl") ? itemSamples(path) : digitSamples(path);
    for await (const sample of samples) {
      const list = byTask.get(sample.task) ?? [];
      if (list.length < countMax) list.push(sample);
      byTask.set(sample.task, list);
    }
  }
  return byTask;
}

function wantedTasks(flags: Flags): Wanted[] {
  const count = flags.number("count") ?? COUNT_DEFAULT;
  const named = flags.list("task");
  if (named.length === 0) return taskNames.map((task) => ({ task, count }));
  return named.map((text) => {
    const [name, own] = text.split("=");
    if (own !== undefined && !/^[1-9]\d{0,6}$/.test(own)) {
      throw new UsageError(`--task ${text}: expected NAME or NAME=COUNT with a count from 1`);
    }
    return { task: parseTaskName(name!), count: own === undefined ? count : Number(own) };
  });
}

async function withAnswerer<T>(
  flags: Flags,
  path: string,
  use: (opened: Pick<ScoringOptions, "answerer" | "text">) => Promise<T>,
): Promise<T> {
  const folder = diskFolder(path);
  const { decoder } = await readConfig(folder);
  const sequences = rolloutSequences(decoder.vocabularySize);
  const { totalBytes } = await planMemory({ folder });
  const backend = await openBackend({ memoryBytes: totalBytes, ...backendFlags(flags) });
  try {
    const bounds = rolloutBounds(sequences);
    const { model, config } = await loadModel({ folder, backend, bounds });
    const text = await openModelText(path, config);
    const answerer = new Answerer({ model, sequences, text, clock: systemClock });
    return await use({ answerer, text });
  } finally {
    await backend.close();
  }
}

function scoreTable(scores: readonly TaskScore[]): string[] {
  const percent = (share: number) => (100 * share).toFixed(1);
  const isSampled = scores.some(({ passAtOne }) => passAtOne !== undefined);
  const head = ["task", "n", "right", "accuracy %", "95 % interval", "cut", "tokens"];
  const rows = scores.map((score) => [
    score.task,
    String(score.count),
    String(score.right),
    percent(score.accuracy),
    `${percent(score.low)} to ${percent(score.high)}`,
    String(score.cut),
    score.answerTokensMean.toFixed(1),
    ...isSampled ? [percent(score.passAtOne ?? 0), percent(score.passAtTries ?? 0)] : [],
  ]);
  const all = isSampled ? [...head, "pass@1", "pass@tries"] : head;
  return textTable([all, ...rows], new Set([1, 2, 3, 5, 6, 7, 8]));
}

async function writeScores(
  path: string,
  flags: Flags,
  { folder, mean, scores }: { folder: string; mean: number; scores: readonly TaskScore[] },
): Promise<void> {
  const report = {
    model: folder,
    seed: flags.number("seed") ?? SEED_DEFAULT,
    heldOut: flags.on("held-out"),
    thinking: flags.on("thinking"),
    mean,
    tasks: scores,
  };
  await Deno.writeTextFile(`${path}.partial`, JSON.stringify(report, null, 2) + "\n");
  await Deno.rename(`${path}.partial`, path);
}

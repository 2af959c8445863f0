/**
 * The scores of nano's card: every task of the table under every condition, by `train score`. They
 * go into `scores.json` and into the table of the card beside the weights.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type CardScore, cardWithScores } from "@/training/pipeline/model_card.ts";
import { parseFlags } from "./flags.ts";
import { score } from "./train_score.ts";
import { writeWhole } from "./whole_file.ts";

const fileOf = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const tasks = (...names: string[]) => names.map((name) => `--task=${name}`);

/** Of what no training run has seen: seed, words and typefaces. */
const HELD_OUT = ["--held-out", "--seed=4711"];

interface Condition {
  /** The table's column. */
  readonly name: string;
  /** Who draws what, as flags of `train score`. */
  readonly flags: readonly string[];
}

/** Questions drawn by another renderer: few are in the repository, more can be made. */
export const SECOND_RENDERER_ITEMS = fileOf("tests/fixtures/nano/held_out.jsonl");

function conditions(secondRendererItems: string): Condition[] {
  return [
    {
      name: "makers, new words and typefaces",
      flags: [
        ...HELD_OUT,
        ...tasks("word", "string", "number", "digit", "count", "colour", "shape", "place"),
        ...tasks("two_lines", "handwriting", "relation", "more", "exists", "bar_reading"),
        ...tasks("caption", "arithmetic"),
      ],
    },
    {
      name: "the same, thinking",
      flags: [
        ...HELD_OUT,
        "--thinking",
        ...tasks("arithmetic", "word_problem", "text_sum", "bar_reading"),
      ],
    },
    { name: "second renderer", flags: ["--items", secondRendererItems] },
    {
      name: "handwriting of people",
      flags: ["--items", fileOf("models/nano/held_out/digits.bin")],
    },
  ];
}

export interface NanoScoreOptions {
  /** Items per task, where there are so many. */
  readonly count: number;
  readonly threads: number | undefined;
  readonly secondRendererItems: string;
}

/** Scores the model in `folder`; rewrites the card's table when there is a card. */
export async function scoreNano(
  folder: string,
  { count, threads, secondRendererItems }: NanoScoreOptions,
): Promise<void> {
  const scores: CardScore[] = [];
  const path = join(folder, "scores.json");
  const shared = ["--count", String(count), ...threads ? ["--threads", String(threads)] : []];
  for (const { name, flags } of conditions(secondRendererItems)) {
    const report = `${path}.report`;
    await score(
      parseFlags("train", ["score", "--model", folder, ...shared, "--json", report, ...flags]),
      [],
    );
    const { tasks } = JSON.parse(await Deno.readTextFile(report)) as { tasks: CardScore[] };
    await Deno.remove(report);
    for (const { task, count, right } of tasks) {
      scores.push({ task, condition: name, count, right });
    }
  }
  await writeWhole(path, JSON.stringify(scores, null, 1) + "\n");
  const card = join(folder, "README.md");
  const text = await Deno.readTextFile(card).catch(() => undefined);
  if (text !== undefined) await writeWhole(card, cardWithScores(text, scores));
}

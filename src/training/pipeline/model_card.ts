/** The table of a model card, made from scores, and its place between two marks of the card. */
import { OperatingError } from "@/errors.ts";

/** Exact answers of one task under one condition. */
export interface CardScore {
  readonly task: string;
  /** Column of the table. */
  readonly condition: string;
  readonly count: number;
  readonly right: number;
}

const START = "<!-- scores: written by make.ts -->";
const END = "<!-- end of scores -->";

/** Tasks as rows, conditions as columns, both in the order in which they first come. */
export function scoreTable(scores: readonly CardScore[]): string {
  const conditions = [...new Set(scores.map(({ condition }) => condition))];
  const tasks = [...new Set(scores.map(({ task }) => task))];
  const cell = (task: string, condition: string) => {
    const score = scores.find((one) => one.task === task && one.condition === condition);
    if (!score) return "–";
    return `${(100 * score.right / score.count).toFixed(1)} % (n ${score.count})`;
  };
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [
    line(["task", ...conditions]),
    line(["---", ...conditions.map(() => "---")]),
    ...tasks.map((task) => line([task, ...conditions.map((condition) => cell(task, condition))])),
  ].join("\n");
}

/** The card with its table replaced; throws OperatingError for a card without the marks. */
export function cardWithScores(card: string, scores: readonly CardScore[]): string {
  const [start, end] = [card.indexOf(START), card.indexOf(END)];
  if (start < 0 || end < start) {
    const message = `Cannot write scores: the card lacks "${START}" and "${END}"`;
    throw new OperatingError("invalid_request", message);
  }
  return `${card.slice(0, start)}${START}\n\n${scoreTable(scores)}\n\n${card.slice(end)}`;
}

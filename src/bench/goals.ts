/**
 * The one table of goals: what rows must reach on a two-core machine without a GPU, and what is
 * hoped for. Ratios and fractions are of the same run.
 */
import type { Goal, Row } from "./report.ts";

interface GoalRow {
  readonly row: string;
  readonly judged: Goal["judged"];
  readonly floor: number;
  readonly aim?: number;
}

const goalTable: readonly GoalRow[] = [
  { row: "decode/1.7b/q4/b1", judged: "ratio", floor: 0.85, aim: 1 },
  { row: "decode/1.7b/q8/b1", judged: "ratio", floor: 0.85, aim: 1 },
  { row: "decode/1.7b/q4/b1", judged: "fraction", floor: 0.8, aim: 0.9 },
  { row: "prefill/1.7b/q4/512", judged: "ratio", floor: 0.65, aim: 0.9 },
  { row: "prefill/1.7b/q8/512", judged: "ratio", floor: 0.65, aim: 0.85 },
  { row: "peer/wllama/decode/1.7b/q4/b1", judged: "ratio", floor: 12 },
  { row: "peer/wllama/prefill/1.7b/q4/512", judged: "ratio", floor: 20 },
  { row: "vit/tile/int8", judged: "ratio", floor: 2.2, aim: 2.5 },
  { row: "vit/tile/q4", judged: "ratio", floor: 2.4, aim: 3 },
  { row: "batch/1.7b/q4/b16", judged: "fraction", floor: 0.8, aim: 0.95 },
  { row: "moe/decode/30b-a3b/q4", judged: "fraction", floor: 0.7, aim: 0.85 },
  { row: "step/dispatch", judged: "value", floor: 1 },
  { row: "step/overhead", judged: "value", floor: 3, aim: 1 },
];

/** From this bandwidth on a decode kernel is bound by arithmetic: GB/s of weights count instead. */
const HIGH_BANDWIDTH_GBS = 40;
const highBandwidthGBs: Readonly<Record<string, number>> = {
  "decode/1.7b/q4/b1": 33,
  "decode/1.7b/q8/b1": 40,
};

/** The row with its goals, as far as it has what they judge. */
export function withGoals(row: Row): Row {
  const goals = goalsOf(row).flatMap((goal) => {
    const value = row[goal.judged];
    if (value === undefined) return [];
    const met = goal.judged === "value" && row.better === "less"
      ? value <= goal.floor
      : value >= goal.floor;
    return [{ ...goal, met }];
  });
  return goals.length > 0 ? { ...row, goals } : row;
}

function goalsOf(row: Row): Omit<Goal, "met">[] {
  const { readGBs } = row;
  const weightGBs = highBandwidthGBs[row.name];
  if (weightGBs !== undefined && readGBs !== undefined && readGBs >= HIGH_BANDWIDTH_GBS) {
    return [{ judged: "fraction", floor: weightGBs / readGBs }];
  }
  return goalTable.filter((goal) => goal.row === row.name).map(({ row: _, ...goal }) => goal);
}

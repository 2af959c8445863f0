/**
 * What the report shows of a log: panels of curves. Knows which fields belong together, and nothing of
 * drawing. A panel without values does not appear.
 */
import { type CueKind, cuePlaces } from "../cues.ts";
import type { StepRecord } from "../run_log.ts";

export interface Curve {
  readonly name: string;
  /** One for each computed step that has the value, ascending. */
  readonly points: readonly (readonly [computed: number, value: number])[];
}

/** A moment that is marked in a panel. */
export interface Mark {
  readonly computed: number;
  readonly tone: "good" | "bad" | "plain";
  readonly text: string;
}

export interface Panel {
  readonly title: string;
  /** What the panel is about, in a few words. */
  readonly note: string;
  readonly curves: readonly Curve[];
  readonly marks: readonly Mark[];
  readonly scale: "linear" | "log";
  /** Values that the panel always shows. */
  readonly range?: readonly [number, number];
}

type Value = (record: StepRecord) => number | null | undefined;

interface PanelPlan extends Omit<Panel, "curves" | "marks" | "scale"> {
  readonly curves: Readonly<Record<string, Value>>;
  readonly scale?: "log";
  readonly showsDecisions?: boolean;
}

/** Kinds of cues that belong together; four curves are told apart. */
const cueGroups: Readonly<Record<string, readonly CueKind[]>> = {
  letters: ["left", "right", "order"],
  figures: ["centre", "colour", "cover"],
  charts: ["category", "level", "rank", "end"],
};

const cuePlans = Object.entries(cueGroups).flatMap(([group, kinds]) =>
  cuePlaces.map((place): PanelPlan => ({
    title: `Cues: ${group}`,
    note: `mean loss, of ${place}`,
    curves: Object.fromEntries(
      kinds.map((kind): [string, Value] => [kind, (r) => r.cueLosses?.[place]?.[kind]]),
    ),
  }))
);

const plans: readonly PanelPlan[] = [
  { title: "Loss", note: "mean over answer tokens", curves: { loss: (r) => r.loss } },
  {
    title: "Reward",
    note: "mean of judged answers",
    curves: { reward: (r) => r.reward, deviation: (r) => r.rewardDeviation },
    range: [0, 1],
  },
  {
    title: "Accuracy",
    note: "greedy, every token",
    curves: { right: (r) => r.accuracy },
    range: [0, 1],
  },
  {
    title: "Rate",
    note: "with the factor of AdaLRS",
    curves: { rate: (r) => r.rate },
    scale: "log",
    showsDecisions: true,
  },
  {
    title: "Gradient norm",
    note: "global, before clipping",
    curves: { norm: (r) => r.gradientNorm },
    scale: "log",
  },
  { title: "Entropy", note: "nats per token", curves: { entropy: (r) => r.entropy } },
  {
    title: "Clipped tokens",
    note: "share, by the ratio",
    curves: { clipped: (r) => r.clipFraction },
  },
  {
    title: "Divergence",
    note: "from what answered, nats",
    curves: { drift: (r) => r.approximateKl },
  },
  {
    title: "Answer length",
    note: "tokens",
    curves: { mean: (r) => r.answerTokens, longest: (r) => r.answerTokensMax },
  },
  {
    title: "Groups",
    note: "left out, right at least once; answers cut short",
    curves: {
      "left out": (r) => r.droppedShare,
      "right once": (r) => r.passRate,
      cut: (r) => r.truncatedShare,
    },
    range: [0, 1],
  },
  {
    title: "Expert balance",
    note: "best: the number of choices",
    curves: { balance: (r) => r.balance },
  },
  { title: "Curriculum", note: "level of new samples", curves: { level: (r) => r.level } },
  { title: "Speed", note: "token rows per second", curves: { speed: (r) => r.rowsPerSecond } },
  ...cuePlans,
];

/** The panels of a log that have anything to show. */
export function panelsOf(records: readonly StepRecord[]): Panel[] {
  const panels = plans.map(({ curves, showsDecisions, scale, ...plan }): Panel => ({
    ...plan,
    scale: scale ?? "linear",
    curves: Object.entries(curves).map(([name, value]) => curveOf(name, records, value))
      .filter(({ points }) => points.length > 0),
    marks: showsDecisions ? decisionMarks(records) : [],
  }));
  return [...panels, rewardParts(records)].filter(({ curves }) => curves.length > 0);
}

function curveOf(name: string, records: readonly StepRecord[], value: Value): Curve {
  const points: (readonly [number, number])[] = [];
  for (const record of records) {
    const found = value(record);
    if (typeof found === "number" && Number.isFinite(found)) points.push([record.computed, found]);
  }
  return { name, points };
}

function rewardParts(records: readonly StepRecord[]): Panel {
  const names = new Set(records.flatMap(({ rewardParts = {} }) => Object.keys(rewardParts)));
  const curves = [...names].map((name) => curveOf(name, records, (r) => r.rewardParts?.[name]));
  return {
    title: "Parts of the reward",
    note: "means before weighting",
    curves,
    marks: [],
    scale: "linear",
    range: [0, 1],
  };
}

const tones: Readonly<Record<string, Mark["tone"]>> = {
  accept: "good",
  reject: "bad",
  abort: "bad",
  lower: "bad",
};

function decisionMarks(records: readonly StepRecord[]): Mark[] {
  return records.flatMap(({ computed, decision }) => {
    if (!decision) return [];
    const { kind, from, to } = decision;
    const text = `${kind}: factor ${from.toPrecision(3)} to ${to.toPrecision(3)}`;
    return [{ computed, tone: tones[kind] ?? "plain", text }];
  });
}

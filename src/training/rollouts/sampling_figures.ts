/** What a step's answers came to, as figures of the log. */
import type { Completion, StepFigures } from "../run_log.ts";
import type { AnswerGroup, RewardedAnswer, Sampling } from "./answer_groups.ts";

/** Groups of which an answer is shown. */
const COMPLETIONS_SHOWN = 4;

/** The fields of the log that the answers fill. */
export type SamplingFigures = Required<
  Pick<
    StepFigures,
    | "reward"
    | "rewardDeviation"
    | "rewardParts"
    | "answerTokens"
    | "answerTokensMax"
    | "truncatedShare"
    | "droppedShare"
    | "groupsAsked"
    | "groupsKept"
    | "passRate"
    | "unjudgedShare"
    | "completions"
  >
>;

export function samplingFigures({ asked, kept }: Sampling): SamplingFigures {
  const answers = asked.flatMap((group) => group.answers);
  const judged = known(answers.map(({ reward }) => reward));
  const lengths = answers.map(({ answer }) => answer.ids.length);
  const reward = mean(judged);
  const passed = asked.filter((group) => group.answers.some(({ parts }) => parts.accuracy === 1));
  return {
    reward,
    rewardDeviation: Math.sqrt(mean(judged.map((value) => (value - reward) ** 2))),
    rewardParts: partMeans(answers),
    answerTokens: mean(lengths),
    answerTokensMax: lengths.reduce((most, length) => Math.max(most, length), 0),
    truncatedShare: mean(answers.map(({ answer }) => Number(!answer.isFinished))),
    droppedShare: 1 - kept.length / Math.max(1, asked.length),
    groupsAsked: asked.length,
    groupsKept: kept.length,
    passRate: passed.length / Math.max(1, asked.length),
    unjudgedShare: 1 - judged.length / Math.max(1, answers.length),
    completions: asked.slice(0, COMPLETIONS_SHOWN).map(completionOf),
  };
}

/** Of what could be judged; parts that never could are left out. */
function partMeans(answers: readonly RewardedAnswer[]): Record<string, number> {
  const means: Record<string, number> = {};
  for (const name of ["accuracy", "format", "thought"] as const) {
    const values = known(answers.map(({ parts }) => parts[name]));
    if (values.length > 0) means[name] = mean(values);
  }
  return means;
}

function completionOf({ prompt: { sample }, answers: [first] }: AnswerGroup): Completion {
  const { question, answer } = sample.turns[0]!;
  return {
    task: sample.task,
    question,
    answer: first!.reply,
    expected: answer,
    reward: first!.reward,
    right: first!.parts.accuracy === 1,
  };
}

function known(values: readonly (number | null)[]): number[] {
  return values.filter((value) => value !== null);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
}

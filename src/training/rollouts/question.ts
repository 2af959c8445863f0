/** Questions that a rule can grade: a maker's sample, asked plainly or for a thought. */
import type { Sample } from "@/data/makers/sample.ts";
import { readChoices, toFreeResponse } from "@/data/verification/free_response.ts";
import type { ConversationEncoder, EncodedQuestion } from "../conversation_encoder.ts";
import { accuracyReward, type Reward } from "../policy/rewards.ts";

/** A question as the model gets it, and the sample that knows the answer. */
export interface Question {
  readonly sample: Sample;
  /** Asks for a thought and an answer in a box. */
  readonly thinking: boolean;
  readonly encoded: EncodedQuestion;
}

export function questionOf(
  sample: Sample,
  { encoder, thinking }: { encoder: ConversationEncoder; thinking: boolean },
): Question {
  return { sample, thinking, encoded: encoder.encodeQuestion(sample, { thinking }) };
}

/** Whether a reply answers the question rightly; null when there is no truth to compare with. */
export function gradeReply({ sample, thinking }: Question, reply: string): Reward {
  const { answer } = sample.turns[0]!;
  const { answerKind: kind } = sample.truth;
  return accuracyReward(reply, { truth: answer, kind, needsBox: thinking });
}

/**
 * A multiple-choice question as a free-response one, so that guessing a letter earns nothing; other
 * questions as they are. Undefined when the question needs its options: a rule would pay for guesses.
 */
export function asFreeResponse(sample: Sample): Sample | undefined {
  const [turn, ...rest] = sample.turns;
  const { question, answer } = turn!;
  const isLetter = readChoices(question).choices.some(({ letter }) => letter === answer);
  if (!isLetter) return sample;
  const free = toFreeResponse(question, answer);
  if (free === undefined) return undefined;
  return { ...sample, turns: [{ ...turn!, ...free }, ...rest] };
}

/**
 * Judges of thoughts: is the chain sound, does it speak of this picture, does it lead to the answer
 * given? The report has a model judge that; here a rule does over what the makers know, and any other
 * judge can take its place.
 */
import type { Sample } from "@/data/makers/sample.ts";
import { isSameAnswer } from "@/data/verification/math_equality.ts";
import { answerOf, type Reward, splitReply } from "./rewards.ts";

/** A reply to a sample's first question. */
export interface JudgedReply {
  readonly sample: Sample;
  readonly reply: string;
}

/** Says 1 for a sound thought, 0 for another one, null when it cannot tell. Never throws. */
export interface ThoughtJudge {
  /** Names the judge in the run's fingerprint. */
  readonly name: string;
  judge(replies: readonly JudgedReply[]): Promise<Reward[]>;
}

/** The judge that needs nobody else. */
export const ruleJudge: ThoughtJudge = {
  name: "rules",
  judge: (replies) => Promise.resolve(replies.map(judgeByRules)),
};

/**
 * Sound: every calculation in the thought is right. Grounded: it names the expression or the count
 * that the picture shows, and calculates where the truth has a calculation. Consistent: its last
 * result, else one of its words, is the answer given. Null where the truth is a free text.
 */
export function judgeByRules({ sample, reply }: JudgedReply): Reward {
  if (sample.truth.answerKind === "text") return null;
  const { thought } = splitReply(reply);
  if (thought === undefined || thought.trim() === "") return 0;
  const equations = equationsOf(thought);
  if (equations === undefined) return 0;
  return Number(isGrounded(thought, sample, equations) && leadsTo(thought, reply, equations));
}

interface Equation {
  readonly result: string;
}

const NUMBER = String.raw`\d+(?:\.\d+)?`;
const TERM = String.raw`(?:\(\s*)*${NUMBER}(?:\s*\))*`;
const SIDE = String.raw`${TERM}(?:\s*[-+−×*÷/]\s*${TERM})*`;
const EQUATION = new RegExp(String.raw`${SIDE}(?:\s*=\s*${SIDE})+`, "g");

/** All calculations that are written out; undefined when one of them is wrong. */
function equationsOf(thought: string): Equation[] | undefined {
  const equations: Equation[] = [];
  for (const [text] of thought.matchAll(EQUATION)) {
    const sides = text.split("=").map((side) => side.trim());
    for (const [i, side] of sides.slice(1).entries()) {
      if (!isSameAnswer(sides[i]!, side)) return undefined;
    }
    equations.push({ result: sides.at(-1)! });
  }
  return equations;
}

function isGrounded(thought: string, { truth }: Sample, equations: readonly Equation[]): boolean {
  const { expression, count, steps } = truth.facts;
  const bare = thought.replaceAll(/\s+/g, "");
  if (typeof expression === "string" && !bare.includes(expression)) return false;
  if (typeof count === "number" && !numbersOf(thought).includes(String(count))) return false;
  return !Array.isArray(steps) || equations.length > 0;
}

/** Whether the answer given is what the thought comes to. */
function leadsTo(thought: string, reply: string, equations: readonly Equation[]): boolean {
  const answer = answerOf(reply);
  if (answer === "") return false;
  const last = equations.at(-1);
  if (last) return isSameAnswer(last.result, answer);
  const words = (text: string) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  const said = new Set(words(thought));
  return words(answer).every((word) => said.has(word));
}

function numbersOf(text: string): string[] {
  return text.match(new RegExp(NUMBER, "g")) ?? [];
}

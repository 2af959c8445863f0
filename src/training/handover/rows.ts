/**
 * Samples as rows of other engines' data sets: ms-swift, LLaVA, verl. Knows their formats and what
 * breaks them; writes no files.
 */
import { THINKING_INSTRUCTION } from "@/chat/template.ts";
import type { Sample } from "@/data/makers/sample.ts";
import { thinkingAnswer } from "../conversation_encoder.ts";

export type Engine = "ms-swift" | "llava" | "verl";

export const engines: readonly Engine[] = ["ms-swift", "llava", "verl"];

export interface RowOptions {
  readonly engine: Engine;
  /** Supervised answers, or prompts with a solution for reinforcement learning. */
  readonly purpose: "sft" | "rl";
  readonly thinking: boolean;
  readonly systemText: string;
  /** Paths of the sample's pictures in the folder. */
  readonly pictures: readonly string[];
}

/** Picture that rows without one get for engines that need one in every row. */
export const BLANK_PICTURE = "images/blank.png";

/** One row, as JSON. */
export function rowOf(sample: Sample, options: RowOptions): Record<string, unknown> {
  switch (options.engine) {
    case "ms-swift":
      return swiftRow(sample, options);
    case "llava":
      return llavaRow(sample, options);
    case "verl":
      return verlRow(sample, options);
  }
}

/** A literal placeholder in a text would count as a picture. */
function escaped(text: string): string {
  return text.replaceAll(/<(image|video|audio)>/g, "< $1 >");
}

/** The question as the model is asked, the thinking instruction behind it. */
function questionText(question: string, { thinking }: RowOptions): string {
  return thinking ? `${escaped(question)}\n${THINKING_INSTRUCTION}` : escaped(question);
}

function placeholders(sample: Sample, pictures: readonly string[]): string {
  if (!sample.isClip) return "<image>".repeat(pictures.length);
  return pictures.map((_, i) => `Frame-${i + 1}: <image>\n`).join("");
}

function answerText(turn: Sample["turns"][number], { thinking }: RowOptions): string {
  return escaped(thinking ? thinkingAnswer(turn) : turn.answer);
}

/** The `sail_vl2` template crashes on rows without pictures: they get a blank one. */
function swiftRow(sample: Sample, options: RowOptions): Record<string, unknown> {
  const images = options.pictures.length > 0 ? [...options.pictures] : [BLANK_PICTURE];
  const messages: { role: string; content: string }[] = [
    { role: "system", content: options.systemText },
  ];
  const turns = options.purpose === "rl" ? sample.turns.slice(0, 1) : sample.turns;
  for (const [i, turn] of turns.entries()) {
    const content = (i === 0 ? placeholders(sample, images) : "") +
      questionText(turn.question, options);
    messages.push({ role: "user", content });
    if (options.purpose === "sft") {
      messages.push({ role: "assistant", content: answerText(turn, options) });
    }
  }
  const solution = options.purpose === "rl" ? { solution: sample.turns[0]!.answer } : {};
  return { messages, images, ...solution, channel: sample.task };
}

function llavaRow(sample: Sample, options: RowOptions): Record<string, unknown> {
  const { pictures } = options;
  const conversations = sample.turns.flatMap((turn, i) => {
    const head = i === 0 && pictures.length > 0
      ? sample.isClip ? placeholders(sample, pictures) : "<image>\n".repeat(pictures.length)
      : "";
    return [
      { from: "human", value: head + questionText(turn.question, options) },
      { from: "gpt", value: answerText(turn, options) },
    ];
  });
  const image = pictures.length === 0
    ? {}
    : { image: pictures.length === 1 ? pictures[0] : [...pictures] };
  return { id: sample.id, ...image, conversations };
}

/** Pictures are paths here; `to_parquet.py` reads them in. */
function verlRow(sample: Sample, options: RowOptions): Record<string, unknown> {
  const turn = sample.turns[0]!;
  const head = placeholders(sample, options.pictures);
  const { answerKind } = sample.truth;
  return {
    data_source: `flotilla/${sample.task}`,
    prompt: [
      { role: "system", content: options.systemText },
      { role: "user", content: head + questionText(turn.question, options) },
    ],
    images: [...options.pictures],
    ability: sample.task,
    reward_model: { style: "rule", ground_truth: turn.answer },
    extra_info: { index: sample.id, answer_kind: answerKind, question: turn.question },
  };
}

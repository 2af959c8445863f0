/**
 * The `univl-chat` grammar: messages -> an ordered list of special tokens, text and picture places.
 * Knows no token ids and no pixels (`prompt.ts`), and never runs the checkpoint's jinja, whose
 * system and assistant turns name tokens that do not exist.
 */
import { assert } from "@/assert.ts";
import type { Message, Part, Role, Thinking } from "./message.ts";

/** The parts of the grammar that a checkpoint may set. */
export interface PromptGrammar {
  readonly template: "univl-chat";
  /** System text of conversations that bring none. */
  readonly systemText: string;
}

/** One step of a prompt. Neighbouring texts are already joined: they must be encoded whole. */
export type PromptPiece =
  | { readonly type: "token"; readonly token: "turnStart" | "turnEnd" }
  | { readonly type: "text"; readonly text: string }
  /** A picture's place: `<img>`, the visual tokens of its tiles, `</img>`. */
  | { readonly type: "picture"; readonly tokens: number };

/** System text of the released checkpoints. */
export const RELEASED_SYSTEM_TEXT =
  "你是由抖音内容理解组开发的多模态大模型，英文名叫UniVL, 是一个有用无害的人工智能助手。";

/** Asks for a chain of thought, in the wording the model was trained with. */
export const THINKING_INSTRUCTION =
  "You FIRST think about the reasoning process as an internal monologue and then provide the " +
  "final answer. The reasoning process MUST BE enclosed within <think> </think> tags. The final " +
  "answer MUST BE put in \\boxed{}.";

const SYSTEM_HEADER = /<\|im_start\|>system(?:\\n|\n)/g;
const TURN_END = "<|im_end|>";

/**
 * The grammar of a checkpoint folder. The default system text is read from `chat_template.jinja`:
 * the literal between the system header and `<|im_end|>`. Absent file or literal: the released one.
 */
export function readGrammar(chatTemplate: string | undefined): PromptGrammar {
  const systemText = chatTemplate === undefined ? undefined : findSystemText(chatTemplate);
  return { template: "univl-chat", systemText: systemText ?? RELEASED_SYSTEM_TEXT };
}

function findSystemText(chatTemplate: string): string | undefined {
  for (const header of chatTemplate.matchAll(SYSTEM_HEADER)) {
    const start = header.index + header[0].length;
    const end = chatTemplate.indexOf(TURN_END, start);
    if (end < 0) return undefined;
    const literal = chatTemplate.slice(start, end);
    // An unescaped quote ends the literal: what stands between is an expression, not a text.
    if (!/(?<!\\)(?:\\\\)*['"]\s*[+~}]/.test(literal)) return unescapeLiteral(literal);
  }
  return undefined;
}

function unescapeLiteral(literal: string): string {
  return literal.replaceAll(/\\(.)/gs, (_, char: string) => {
    return char === "n" ? "\n" : char === "t" ? "\t" : char === "r" ? "\r" : char;
  });
}

export interface RenderOptions {
  readonly grammar: PromptGrammar;
  readonly thinking: Thinking;
  /**
   * Visual tokens of the pictures of each file, in prompt order as `listPictures` lists them: one
   * entry per file, with one number per picture (a clip has several).
   */
  readonly tokenCounts: readonly (readonly number[])[];
}

/**
 * Renders a conversation and the header of the answer to come. The thinking instruction ends the
 * last turn of the user.
 */
export function renderChat(
  messages: readonly Message[],
  { grammar, thinking, tokenCounts }: RenderOptions,
): PromptPiece[] {
  const writer = new PieceWriter(tokenCounts);
  if (messages[0]?.role !== "system") {
    writer.openTurn("system");
    writer.text(grammar.systemText);
    writer.closeTurn();
  }
  const lastUserIndex = messages.findLastIndex((message) => message.role === "user");
  for (const [index, { role, parts }] of messages.entries()) {
    writer.openTurn(role);
    for (const part of parts) writePart(writer, part);
    if (thinking.enabled && index === lastUserIndex) {
      if (needsLineBreak(parts)) writer.text("\n");
      writer.text(THINKING_INSTRUCTION);
    }
    writer.closeTurn();
  }
  writer.openTurn("assistant");
  return writer.finish();
}

/** A picture already ends its line; an empty turn needs no empty line before the instruction. */
function needsLineBreak(parts: readonly Part[]): boolean {
  const last = parts.findLast((part) => part.type !== "text" || part.text !== "");
  return last?.type === "text";
}

function writePart(writer: PieceWriter, part: Part): void {
  switch (part.type) {
    case "text":
      return writer.text(part.text);
    case "image":
      return writer.pictures(writer.nextFile());
    case "video":
      return writeFrames(writer, part.frames.flatMap(() => writer.nextFile()));
    case "clip":
      return writeFrames(writer, writer.nextFile());
  }
}

function writeFrames(writer: PieceWriter, tokenCounts: readonly number[]): void {
  for (const [index, tokens] of tokenCounts.entries()) {
    writer.text(`Frame-${index + 1}: `);
    writer.pictures([tokens]);
  }
}

/** Collects pieces; joins texts as they come. */
class PieceWriter {
  readonly #pieces: PromptPiece[] = [];
  readonly #files: Iterator<readonly number[]>;
  #text = "";

  constructor(tokenCounts: readonly (readonly number[])[]) {
    this.#files = tokenCounts.values();
  }

  /** Visual tokens of the next file's pictures. */
  nextFile(): readonly number[] {
    const { value, done } = this.#files.next();
    assert(!done, "every picture has its token counts");
    return value;
  }

  openTurn(role: Role): void {
    this.#push({ type: "token", token: "turnStart" });
    this.#text = `${role}\n`;
  }

  closeTurn(): void {
    this.#push({ type: "token", token: "turnEnd" });
  }

  text(text: string): void {
    this.#text += text;
  }

  pictures(tokenCounts: readonly number[]): void {
    for (const tokens of tokenCounts) {
      this.#push({ type: "picture", tokens });
      this.#text = "\n";
    }
  }

  finish(): PromptPiece[] {
    assert(this.#files.next().done, "every file has a picture in the prompt");
    this.#flushText();
    return this.#pieces;
  }

  #push(piece: PromptPiece): void {
    this.#flushText();
    this.#pieces.push(piece);
  }

  #flushText(): void {
    if (this.#text === "") return;
    this.#pieces.push({ type: "text", text: this.#text });
    this.#text = "";
  }
}

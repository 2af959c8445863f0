/**
 * The `univl-chat` grammar: messages -> an ordered list of special tokens, text and picture places.
 * Knows no token ids and no pixels (`prompt.ts`), and never runs the checkpoint's jinja, whose
 * system and assistant turns name tokens that do not exist.
 */
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
  /** A picture's place: `<img>`, its visual tokens, `</img>`. Index in prompt order. */
  | { readonly type: "picture"; readonly index: number };

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

/**
 * Renders a conversation and the header of the answer to come. The thinking instruction ends the
 * last turn of the user.
 */
export function renderChat(
  messages: readonly Message[],
  { grammar, thinking }: { grammar: PromptGrammar; thinking: Thinking },
): PromptPiece[] {
  const writer = new PieceWriter();
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
  if (part.type === "text") {
    writer.text(part.text);
  } else if (part.type === "image") {
    writer.picture();
  } else {
    for (const index of part.frames.keys()) {
      writer.text(`Frame-${index + 1}: `);
      writer.picture();
    }
  }
}

/** Collects pieces; joins texts as they come. */
class PieceWriter {
  readonly #pieces: PromptPiece[] = [];
  #text = "";
  #pictureCount = 0;

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

  picture(): void {
    this.#push({ type: "picture", index: this.#pictureCount });
    this.#pictureCount += 1;
    this.#text = "\n";
  }

  finish(): PromptPiece[] {
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

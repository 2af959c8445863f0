/**
 * A maker's sample as tokens to train on: the prompt exactly as serving renders it, loss on what the
 * model must say. Pictures are cut into tiles by the same plan as when serving.
 */
import { assert } from "@/assert.ts";
import { encodePrompt } from "@/chat/prompt.ts";
import type { PromptTokens } from "@/chat/served_model.ts";
import { type PromptGrammar, renderChat } from "@/chat/template.ts";
import type { Message, Part } from "@/chat/message.ts";
import { NO_THINKING } from "@/chat/message.ts";
import type { Picture } from "@/data/drawing/canvas.ts";
import type { Sample, Turn } from "@/data/makers/sample.ts";
import type { TokenizedSample } from "@/data/stream/packed_batch.ts";
import { resizeBicubic } from "@/media/resize.ts";
import { planTiles, type TileRequest } from "@/media/tiling.ts";
import { cueAnswers, type TileView } from "./cues.ts";
import type { Tokenizer } from "@/tokenizer/tokenizer.ts";

export interface EncoderOptions {
  readonly tokenizer: Tokenizer;
  readonly promptTokens: PromptTokens;
  readonly grammar: PromptGrammar;
  readonly tokensPerTile: number;
  readonly tiling: TileRequest;
  /** Side of a vision patch; given when samples are to have cues. */
  readonly cuePatchSize?: number;
}

/** How one sample is to be learnt. */
export interface EncodingStyle {
  /** Asks for a chain of thought; answers come as `<think>…</think>\boxed{…}`. */
  readonly thinking: boolean;
  /** Another system text than the grammar's. */
  readonly systemText?: string;
  /** Loss weights of the thought and of the answer; both 1 unless said. */
  readonly thoughtWeight?: number;
  readonly answerWeight?: number;
}

/** What a thinking model says: the thought, then the answer in a box. */
export function thinkingAnswer({ thought = "", answer }: Turn): string {
  return `<think>${thought}</think>\\boxed{${answer}}`;
}

/** A prompt of the sample's first turn, for rollouts and tests: ids, spans and tiles. */
export interface EncodedQuestion {
  readonly ids: readonly number[];
  readonly spans: readonly { readonly start: number; readonly count: number }[];
  readonly tiles: readonly Uint8Array[];
}

export class ConversationEncoder {
  readonly #options: EncoderOptions;
  readonly #thoughtTokens: ReadonlySet<number>;

  constructor(options: EncoderOptions) {
    this.#options = options;
    const { thinkStart, thinkEnd } = options.promptTokens;
    this.#thoughtTokens = new Set([thinkStart, thinkEnd].filter((id) => id !== undefined));
  }

  /** All turns, with loss on each answer and on the token that ends it. */
  encode(sample: Sample, style: EncodingStyle): TokenizedSample {
    const tiles = sample.pictures.map((picture) => this.tilesOf(picture, sample.isClip));
    const ids: number[] = [];
    const weights: number[] = [];
    const spans: { start: number; count: number }[] = [];
    const messages: Message[] = [];
    for (const [i, turn] of sample.turns.entries()) {
      messages.push(userMessage(turn.question, i === 0 ? sample : undefined));
      const prompt = this.#prompt(messages, { tiles, style });
      // Past turns keep the ids they were learnt with; the last user's turn follows them.
      const from = i === 0 ? 0 : this.#lastUserTurn(prompt.ids);
      for (const id of prompt.ids.slice(from)) {
        ids.push(id);
        weights.push(0);
      }
      if (i === 0) spans.push(...prompt.spans);
      const said = this.#answer(turn, style);
      ids.push(...said.ids);
      weights.push(...said.weights);
      const text = style.thinking ? thinkingAnswer(turn) : turn.answer;
      messages.push({ role: "assistant", parts: [{ type: "text", text }] });
    }
    return {
      id: sample.id,
      ids: Int32Array.from(ids),
      weights: Float32Array.from(weights),
      tokens: ids.length,
      visualTokens: spans.reduce((sum, { count }) => sum + count, 0),
      spans,
      tiles: tiles.flat(),
      ...(this.#options.cuePatchSize !== undefined && { cues: this.#cues(sample) }),
    };
  }

  /** The first question alone. */
  encodeQuestion(sample: Sample, style: EncodingStyle): EncodedQuestion {
    const tiles = sample.pictures.map((picture) => this.tilesOf(picture, sample.isClip));
    const messages = [userMessage(sample.turns[0]!.question, sample)];
    return { ...this.#prompt(messages, { tiles, style }), tiles: tiles.flat() };
  }

  /** Of the tiles that `tilesOf` gives, in their order. */
  #cues({ pictures, isClip, marks }: Sample): Uint8Array[] {
    const side = this.#options.tiling.tileSize / this.#options.cuePatchSize!;
    return pictures.flatMap((picture, index) => {
      const drawn = marks.filter((mark) => mark.picture === index);
      const { grid: { columns, rows }, thumbnail } = this.#plan(picture, isClip);
      const [width, height] = [picture.width / columns, picture.height / rows];
      const views = Array.from({ length: columns * rows }, (_, tile): TileView => ({
        left: tile % columns * width,
        top: Math.floor(tile / columns) * height,
        width,
        height,
        side,
      }));
      const { width: whole, height: tall } = picture;
      if (thumbnail) views.push({ left: 0, top: 0, width: whole, height: tall, side });
      return views.map((view) => cueAnswers(drawn, view));
    });
  }

  #plan(picture: Picture, isFrame: boolean) {
    const plan = planTiles(picture.width, picture.height, {
      ...this.#options.tiling,
      ...(isFrame && { singleTile: true }),
    });
    assert(plan.secondGrid === undefined, "training cuts one grid");
    return plan;
  }

  /** Pixels of a picture's tiles, thumbnail last; a frame is one tile. */
  tilesOf(picture: Picture, isFrame: boolean): Uint8Array[] {
    const { tileSize } = this.#options.tiling;
    const plan = this.#plan(picture, isFrame);
    const { columns, rows } = plan.grid;
    const whole = resizeBicubic(picture, columns * tileSize, rows * tileSize).data;
    const tiles: Uint8Array[] = [];
    const stride = columns * tileSize * 3;
    for (let tile = 0; tile < columns * rows; tile++) {
      const [x, y] = [tile % columns * tileSize * 3, Math.floor(tile / columns) * tileSize];
      const pixels = new Uint8Array(tileSize * tileSize * 3);
      for (let line = 0; line < tileSize; line++) {
        const at = (y + line) * stride + x;
        pixels.set(whole.subarray(at, at + tileSize * 3), line * tileSize * 3);
      }
      tiles.push(pixels);
    }
    if (plan.thumbnail) tiles.push(resizeBicubic(picture, tileSize, tileSize).data);
    return tiles;
  }

  #prompt(
    messages: readonly Message[],
    { tiles, style }: { tiles: readonly (readonly Uint8Array[])[]; style: EncodingStyle },
  ) {
    const { grammar, tokensPerTile, tokenizer, promptTokens } = this.#options;
    const pieces = renderChat(messages, {
      grammar: { ...grammar, systemText: style.systemText ?? grammar.systemText },
      thinking: style.thinking ? { enabled: true, budgetTokens: undefined } : NO_THINKING,
      tokenCounts: tiles.map((list) => [list.length * tokensPerTile]),
    });
    return encodePrompt(pieces, { tokenizer, promptTokens });
  }

  /** Where the last but one turn of a prompt begins: the header of the answer is the last. */
  #lastUserTurn(ids: readonly number[]): number {
    const { turnStart } = this.#options.promptTokens;
    const answer = ids.lastIndexOf(turnStart);
    return ids.lastIndexOf(turnStart, answer - 1);
  }

  #answer(turn: Turn, style: EncodingStyle): { ids: number[]; weights: number[] } {
    const { tokenizer, promptTokens } = this.#options;
    const { thoughtWeight = 1, answerWeight = 1 } = style;
    const specialTokens = this.#thoughtTokens;
    const encode = (text: string) => tokenizer.encode(text, { specialTokens });
    const thought = style.thinking ? encode(`<think>${turn.thought ?? ""}</think>`) : [];
    const answer = encode(style.thinking ? `\\boxed{${turn.answer}}` : turn.answer);
    const ids = [...thought, ...answer, promptTokens.turnEnd];
    const weights = ids.map((_, i) => i < thought.length ? thoughtWeight : answerWeight);
    return { ids, weights };
  }
}

function userMessage(question: string, sample: Sample | undefined): Message {
  const text: Part = { type: "text", text: question };
  if (!sample || sample.pictures.length === 0) return { role: "user", parts: [text] };
  const reference = { url: "", field: "" };
  const pictures: Part[] = sample.isClip
    ? [{ type: "video", frames: sample.pictures.map(() => reference) }]
    : sample.pictures.map(() => ({ type: "image", detail: "auto", ...reference }));
  return { role: "user", parts: [...pictures, text] };
}

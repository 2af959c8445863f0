/**
 * Prompt pieces -> token ids with the places of the picture tiles. Owns the encoding rules; the
 * order of the pieces is `template.ts`, the pixels are `images.ts`.
 */
import type { Tokenizer } from "@/tokenizer/tokenizer.ts";
import type { PromptTokens } from "./served_model.ts";
import type { PromptPiece } from "./template.ts";

/** Visual tokens of one picture inside the prompt: [start, start + count). */
export interface PictureSpan {
  readonly start: number;
  readonly count: number;
}

export interface EncodedPrompt {
  readonly ids: readonly number[];
  /** One per picture or frame, in prompt order. */
  readonly spans: readonly PictureSpan[];
}

export interface PromptEncoding {
  readonly tokenizer: Tokenizer;
  readonly promptTokens: PromptTokens;
}

/**
 * Encodes each text whole, so that merges across its inner borders are those of the reference.
 * Special-token strings in a text stay text, whoever wrote it. Only `<think>` and `</think>` match:
 * they control nothing, the thinking instruction was trained with their ids, and an answer sent back
 * encodes as it was generated.
 */
export function encodePrompt(
  pieces: readonly PromptPiece[],
  { tokenizer, promptTokens }: PromptEncoding,
): EncodedPrompt {
  const ids: number[] = [];
  const spans: PictureSpan[] = [];
  const { thinkStart, thinkEnd } = promptTokens;
  const specialTokens = new Set([thinkStart, thinkEnd].filter((id) => id !== undefined));
  for (const piece of pieces) {
    if (piece.type === "token") {
      ids.push(promptTokens[piece.token]);
    } else if (piece.type === "text") {
      for (const id of tokenizer.encode(piece.text, { specialTokens })) ids.push(id);
    } else {
      ids.push(promptTokens.imageStart);
      spans.push({ start: ids.length, count: piece.tokens });
      for (let i = 0; i < piece.tokens; i++) ids.push(promptTokens.imageContext);
      ids.push(promptTokens.imageEnd);
    }
  }
  return { ids, spans };
}

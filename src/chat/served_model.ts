/**
 * All that the chat layer and the API know of a model: what generates, what encodes, and the facts
 * about its prompts. Filled by the composition root; loads nothing itself.
 */
import type { Generator } from "@/engine/request.ts";
import { OperatingError } from "@/errors.ts";
import type { WholeRequest } from "@/media/tiling.ts";
import type { Tokenizer } from "@/tokenizer/tokenizer.ts";
import type { PromptGrammar } from "./template.ts";

/** Ids of the tokens that a prompt is built from. */
export interface PromptTokens {
  /** `<|im_start|>` */
  readonly turnStart: number;
  /** `<|im_end|>` */
  readonly turnEnd: number;
  /** `<img>` */
  readonly imageStart: number;
  /** `</img>` */
  readonly imageEnd: number;
  /** `<IMG_CONTEXT>`: one per visual token. */
  readonly imageContext: number;
  /** `<think>` and `</think>`; undefined where the vocabulary spells them in pieces. */
  readonly thinkStart: number | undefined;
  readonly thinkEnd: number | undefined;
}

/** What a client may read about a model; no decision depends on it. */
export interface ModelFacts {
  readonly architecture?: string;
  readonly parameterCount?: number;
  readonly quantization?: string;
  readonly backend?: string;
}

export interface ServedModel {
  readonly id: string;
  readonly generator: Generator;
  readonly tokenizer: Tokenizer;
  readonly grammar: PromptGrammar;
  readonly promptTokens: PromptTokens;
  /** Token ids that end an answer by themselves. */
  readonly endTokenIds: readonly number[];
  /** Side of a picture tile in pixels. */
  readonly tileSize: number;
  /** Visual tokens of one tile. */
  readonly tokensPerTile: number;
  /** Tiles per picture unless the request names another bound. */
  readonly tilesMax: number;
  /** Pictures keep their size and aspect instead of being cut (AnyRes); undefined: tiles. */
  readonly wholePictures: WholeRequest | undefined;
  /** Multi-scale adaptive cropping instead of the single grid. */
  readonly msac: boolean;
  /** Whether a tile of the whole picture follows the crops. */
  readonly thumbnail: boolean;
  /** Whether pictures are turned upright by their EXIF orientation. */
  readonly uprightPictures: boolean;
  /** Prompt and answer together, in tokens. */
  readonly contextTokens: number;
  /** Ids below this exist in the tokenizer; prompts and `logit_bias` may use only these. */
  readonly usableVocabulary: number;
  /** Whether the model was trained to think when the prompt asks for it. */
  readonly thinking: boolean;
  /** Backend, kernel variant, quantisation and format version: equal class, equal tokens. */
  readonly numericClass: string;
  readonly createdEpochSeconds: number;
  readonly facts: ModelFacts;
}

const RELEASED_IMAGE_CONTEXT_ID = 151671;

/**
 * Looks the prompt's tokens up by name. `<IMG_CONTEXT>` falls back to the id that the released code
 * hard-codes. Throws OperatingError `checkpoint_invalid` naming the missing token.
 */
export function findPromptTokens(tokenizer: Tokenizer): PromptTokens {
  const find = (text: string, fallback?: number): number => {
    const id = tokenizer.tokenId(text) ?? fallback;
    if (id !== undefined) return id;
    throw new OperatingError("checkpoint_invalid", `Cannot build prompts: tokenizer lacks ${text}`);
  };
  return {
    turnStart: find("<|im_start|>"),
    turnEnd: find("<|im_end|>"),
    imageStart: find("<img>"),
    imageEnd: find("</img>"),
    imageContext: find("<IMG_CONTEXT>", RELEASED_IMAGE_CONTEXT_ID),
    thinkStart: tokenizer.tokenId("<think>"),
    thinkEnd: tokenizer.tokenId("</think>"),
  };
}

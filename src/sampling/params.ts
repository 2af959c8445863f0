/** Sampling parameters of one request, validated by the API and read by the engine. No HTTP here. */

/** How tokens are drawn. Neutral values switch a rule off. */
export interface SamplingParams {
  /** 0 = greedy. */
  readonly temperature: number;
  /** 0 = off. */
  readonly topK: number;
  /** 1 = off. */
  readonly topP: number;
  /** 0 = off. */
  readonly minP: number;
  /** Subtracted once from every token already generated. */
  readonly presencePenalty: number;
  /** Subtracted per earlier occurrence in the answer. */
  readonly frequencyPenalty: number;
  /** Divides (positive) or multiplies (negative) logits of tokens in prompt or answer; 1 = off. */
  readonly repetitionPenalty: number;
  /** Added to the logits of single tokens. */
  readonly logitBias: ReadonlyMap<number, number>;
  readonly seed: number;
  readonly maxTokens: number;
  /** End tokens are not allowed before this many tokens. */
  readonly minTokens: number;
  /** Goes on after an end token. */
  readonly ignoreEos: boolean;
  /** Extra token ids that end the answer, beside the model's own. */
  readonly stopTokenIds: readonly number[];
  /** Candidates returned per token; undefined = no logprobs at all. */
  readonly topLogprobs: number | undefined;
}

/** Greedy decoding, as the released generation config implies. */
export const greedyParams: SamplingParams = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  logitBias: new Map(),
  seed: 0,
  maxTokens: 512,
  minTokens: 0,
  ignoreEos: false,
  stopTokenIds: [],
  topLogprobs: undefined,
};

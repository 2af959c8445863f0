/**
 * The engine's contract with its callers: tokens in, tokens out. No text, no HTTP.
 * Stop strings are text, so the chat layer watches for them and calls `finishChoice`.
 */
import type { SamplingParams } from "@/sampling/params.ts";

/** A picture at its own size: what stands in the prompt instead of a tile (AnyRes). */
export interface WholePicture {
  readonly width: number;
  readonly height: number;
  /** Visual tokens it becomes. */
  readonly tokens: number;
}

/** One encoder-size picture tile inside the prompt, or a whole picture. */
export interface PromptTile {
  /** Content hash of the pixels: key of the vision cache, and part of the prefix-cache key. */
  readonly hash: string;
  /** RGB pixels, u8 [tileSize, tileSize, 3], or [height, width, 3] of a whole picture. */
  readonly pixels: Uint8Array;
  /** Where its visual tokens start in `promptIds`; they are tokensPerTile, or the picture's. */
  readonly start: number;
  readonly picture?: WholePicture;
}

export interface GenerationRequest {
  readonly id: string;
  /** Whole prompt, image placeholder ids included. */
  readonly promptIds: readonly number[];
  /** In prompt order; together they cover every image placeholder exactly. */
  readonly tiles: readonly PromptTile[];
  readonly params: SamplingParams;
  /** Independent continuations of the same prompt (OpenAI `n`); choice i draws with (seed, i, position). */
  readonly choices: number;
  /** Log-probabilities of the prompt tokens too (`echo` with `logprobs`). */
  readonly promptLogprobs: boolean;
  /**
   * Tokens that each choice has already, from an engine that was lost: they are computed like the
   * prompt, count as answered, and are not told again.
   */
  readonly answered?: readonly (readonly number[])[];
  /** false: no drafts for this request. Tokens are the same with and without. */
  readonly speculates?: boolean;
}

/** What became of drafted tokens. */
export interface DraftOutcome {
  readonly accepted: number;
  readonly rejected: number;
}

export interface TokenLogprob {
  readonly id: number;
  readonly logprob: number;
}

export type FinishReason = "stop" | "length";

/** What a submitted request yields, in order per choice; ends after every choice finished. */
export type EngineEvent =
  /** Prompt progress; `cached` tokens came from the prefix cache. Sent after each prefill step. */
  | {
    readonly type: "prefill";
    readonly computed: number;
    readonly total: number;
    readonly cached: number;
  }
  /** Once, before the first token, when `promptLogprobs`: entry i describes promptIds[i] (first is null). */
  | {
    readonly type: "prompt_logprobs";
    readonly entries: readonly (
      | null
      | { readonly chosen: TokenLogprob; readonly top: readonly TokenLogprob[] }
    )[];
  }
  | {
    readonly type: "token";
    readonly choice: number;
    readonly id: number;
    /** Log-probability of `id` and the requested candidates, under the unmodified logits. */
    readonly logprob: TokenLogprob | undefined;
    readonly top: readonly TokenLogprob[];
    /** Drafts that this draw decided: the one it confirmed, or those it made void. */
    readonly drafts?: DraftOutcome;
  }
  /** Exactly one per choice. The end token itself is also sent as a token event before. */
  | { readonly type: "finish"; readonly choice: number; readonly reason: FinishReason };

/** A running request. Iterating throws OperatingError when the engine fails or `signal` fires. */
export interface Generation extends AsyncIterable<EngineEvent> {
  /** The caller saw enough of one choice (stop string): it finishes with "stop" within one step. */
  finishChoice(choice: number): void;
}

/** What chat and evaluation see of the engine. */
export interface Generator {
  /**
   * Throws OperatingError("overloaded") at once when the queue is full, "context_length_exceeded"
   * or "invalid_request" when the request can never run.
   */
  submit(request: GenerationRequest, options: { signal?: AbortSignal }): Generation;
}

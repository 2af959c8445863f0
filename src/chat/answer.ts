/**
 * A prompt of tokens -> a stream of answer events for all its choices. Owns submission to the
 * engine and cancellation; what the engine's events mean is `answer_reader.ts`.
 */
import type {
  EngineEvent,
  FinishReason,
  Generation,
  GenerationRequest,
  PromptTile,
} from "@/engine/request.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import type { SamplingParams } from "@/sampling/params.ts";
import { AnswerReader, type Continuation, type Source } from "./answer_reader.ts";
import { MergedEvents } from "./merged_events.ts";
import type { OutputDelta } from "./output.ts";
import type { ServedModel } from "./served_model.ts";

/** How to answer, apart from the prompt. */
export interface AnswerOptions {
  readonly sampling: Omit<SamplingParams, "maxTokens">;
  /** undefined = what the context leaves, up to `limits.answerTokensDefault`. */
  readonly maxTokens: number | undefined;
  readonly choices: number;
  readonly stops: readonly string[];
  readonly skipSpecialTokens: boolean;
  /** false: the engine drafts no tokens for this answer. Default true. */
  readonly speculates?: boolean;
}

export interface AnswerRequest {
  readonly id: string;
  readonly promptIds: readonly number[];
  readonly tiles: readonly PromptTile[];
  readonly options: AnswerOptions;
  readonly splitReasoning: boolean;
  /** Tokens of thought after which it is closed for the model; undefined = no bound. */
  readonly thoughtTokensMax: number | undefined;
  readonly promptLogprobs: boolean;
  /** Request field that holds the prompt, for errors about its length. */
  readonly field: string;
}

export interface Usage {
  readonly promptTokens: number;
  /** Prompt tokens that came from the prefix cache. */
  readonly cachedTokens: number;
  readonly completionTokens: number;
  /** Of the completion: the thought and its tags. */
  readonly reasoningTokens: number;
  /** Drafted tokens that became part of the completion, and those that did not. */
  readonly acceptedDrafts: number;
  readonly rejectedDrafts: number;
}

type PrefillEvent = Extract<EngineEvent, { type: "prefill" }>;
type PromptLogprobsEvent = Extract<EngineEvent, { type: "prompt_logprobs" }>;

export type AnswerEvent =
  | PrefillEvent
  | PromptLogprobsEvent
  | ({ readonly type: "delta"; readonly choice: number } & OutputDelta)
  /** Once per choice; `stop` is the stop string that ended it, if one did. */
  | {
    readonly type: "finish";
    readonly choice: number;
    readonly reason: FinishReason;
    readonly stop: string | undefined;
  }
  /** The last event. */
  | { readonly type: "usage"; readonly usage: Usage };

/**
 * Tokens the answer may have. Throws OperatingError `context_length_exceeded` with the counts when
 * prompt and answer do not fit the context.
 */
export function resolveMaxTokens(
  { promptTokens, maxTokens, field }: {
    promptTokens: number;
    maxTokens: number | undefined;
    field: string;
  },
  { contextTokens }: Pick<ServedModel, "contextTokens">,
): number {
  const room = contextTokens - promptTokens;
  if (room >= (maxTokens ?? 1)) return maxTokens ?? Math.min(room, limits.answerTokensDefault);
  const asked = maxTokens === undefined ? "an answer" : `${maxTokens} answer tokens`;
  throw new OperatingError(
    "context_length_exceeded",
    `Cannot fit request: ${promptTokens} prompt tokens and ${asked} exceed the context of ` +
      `${contextTokens} tokens`,
    { field },
  );
}

/**
 * Submits a prompt and returns its events. Submission happens at once, so a full queue or a prompt
 * that is too long throws here (OperatingError); later failures are thrown by the iteration. The
 * iterator must be consumed, or `signal` aborted.
 */
export function startAnswer(
  request: AnswerRequest,
  { model, signal }: { model: ServedModel; signal: AbortSignal },
): AsyncGenerator<AnswerEvent> {
  const { id, promptIds, tiles, options, promptLogprobs, field } = request;
  const { choices, speculates = true } = options;
  const maxTokens = resolveMaxTokens(
    { promptTokens: promptIds.length, maxTokens: options.maxTokens, field },
    model,
  );
  const params: SamplingParams = { ...options.sampling, maxTokens };
  const left = new AbortController();
  const leave = () => left.abort(new OperatingError("cancelled", "Request was cancelled"));
  const anySignal = AbortSignal.any([signal, left.signal]);
  const submit = (submission: GenerationRequest) =>
    model.generator.submit({ ...submission, speculates }, { signal: anySignal });
  const first = submit({ id, promptIds, tiles, params, choices, promptLogprobs });
  const events = new MergedEvents<Source, EngineEvent>(leave);
  const reader = new AnswerReader(request, { model, params, first });
  // A closed thought goes on as a request of its own, for its choice alone.
  const continueThought = ({ choice, ids, params }: Continuation): Generation => {
    const generation = submit({
      id: `${id}-after-thought-${choice}`,
      promptIds: [...promptIds, ...ids],
      tiles,
      params,
      choices: 1,
      promptLogprobs: false,
    });
    events.add({ generation, choice }, generation);
    return generation;
  };
  async function* read(): AsyncGenerator<AnswerEvent> {
    let isDone = false;
    try {
      events.add({ generation: first, choice: undefined }, first);
      for await (const { source, event } of events) {
        yield* reader.read(event, { source, continueThought });
      }
      yield reader.usage();
      isDone = true;
    } finally {
      if (!isDone) leave();
    }
  }
  return read();
}

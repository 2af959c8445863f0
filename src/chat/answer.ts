/**
 * A prompt of tokens -> a stream of answer events for all its choices. Owns the talk with the
 * engine: submission, stop strings that end a choice, counts. Texts are `output.ts`.
 */
import type { EngineEvent, FinishReason, Generation, PromptTile } from "@/engine/request.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import type { SamplingParams } from "@/sampling/params.ts";
import { ChoiceOutput, type OutputDelta } from "./output.ts";
import type { ServedModel } from "./served_model.ts";

/** How to answer, apart from the prompt. */
export interface AnswerOptions {
  readonly sampling: Omit<SamplingParams, "maxTokens">;
  /** undefined = what the context leaves, up to `limits.answerTokensDefault`. */
  readonly maxTokens: number | undefined;
  readonly choices: number;
  readonly stops: readonly string[];
  readonly skipSpecialTokens: boolean;
}

export interface AnswerRequest {
  readonly id: string;
  readonly promptIds: readonly number[];
  readonly tiles: readonly PromptTile[];
  readonly options: AnswerOptions;
  readonly splitReasoning: boolean;
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
  const maxTokens = resolveMaxTokens(
    { promptTokens: promptIds.length, maxTokens: options.maxTokens, field },
    model,
  );
  const params: SamplingParams = { ...options.sampling, maxTokens };
  const left = new AbortController();
  const generation = model.generator.submit(
    { id, promptIds, tiles, params, choices: options.choices, promptLogprobs },
    { signal: AbortSignal.any([signal, left.signal]) },
  );
  return readAnswer(new AnswerReader(request, { model, generation }), { generation, left });
}

/** Leaving the iteration early gives the engine's slot back. */
async function* readAnswer(
  reader: AnswerReader,
  { generation, left }: { generation: Generation; left: AbortController },
): AsyncGenerator<AnswerEvent> {
  let isDone = false;
  try {
    for await (const event of generation) yield* reader.read(event);
    yield reader.usage();
    isDone = true;
  } finally {
    if (!isDone) left.abort(new OperatingError("cancelled", "Request was cancelled"));
  }
}

/** Turns engine events into answer events. */
class AnswerReader {
  readonly #generation: Generation;
  readonly #outputs: readonly ChoiceOutput[];
  readonly #isFinished: boolean[];
  readonly #promptTokens: number;
  #cachedTokens = 0;

  constructor(
    request: AnswerRequest,
    { model, generation }: { model: ServedModel; generation: Generation },
  ) {
    const { choices, stops, skipSpecialTokens, sampling } = request.options;
    const { splitReasoning } = request;
    const endTokenIds = new Set([...model.endTokenIds, ...sampling.stopTokenIds]);
    this.#generation = generation;
    this.#promptTokens = request.promptIds.length;
    this.#isFinished = new Array<boolean>(choices).fill(false);
    this.#outputs = Array.from(
      this.#isFinished,
      () =>
        new ChoiceOutput({
          tokenizer: model.tokenizer,
          stops,
          splitReasoning,
          skipSpecialTokens,
          endTokenIds,
        }),
    );
  }

  *read(event: EngineEvent): Generator<AnswerEvent> {
    if (event.type === "token") {
      yield* this.#readToken(event);
    } else if (event.type === "finish") {
      yield* this.#finish(event.choice, event.reason);
    } else {
      if (event.type === "prefill") this.#cachedTokens = event.cached;
      yield event;
    }
  }

  usage(): AnswerEvent {
    const sum = (count: (output: ChoiceOutput) => number) =>
      this.#outputs.reduce((total, output) => total + count(output), 0);
    return {
      type: "usage",
      usage: {
        promptTokens: this.#promptTokens,
        cachedTokens: this.#cachedTokens,
        completionTokens: sum((output) => output.tokenCount),
        reasoningTokens: sum((output) => output.reasoningTokenCount),
      },
    };
  }

  *#readToken(event: Extract<EngineEvent, { type: "token" }>): Generator<AnswerEvent> {
    const { choice } = event;
    // Tokens of steps that ran before the engine heard of the stop string.
    if (this.#isFinished[choice]) return;
    const output = this.#outputs[choice]!;
    yield { type: "delta", choice, ...output.push(event) };
    if (output.matchedStop === undefined) return;
    this.#generation.finishChoice(choice);
    yield* this.#finish(choice, "stop");
  }

  *#finish(choice: number, reason: FinishReason): Generator<AnswerEvent> {
    if (this.#isFinished[choice]) return;
    this.#isFinished[choice] = true;
    const output = this.#outputs[choice]!;
    const rest = output.finish(reason);
    if (rest.reasoning !== "" || rest.content !== "" || rest.logprobs.length > 0) {
      yield { type: "delta", choice, ...rest };
    }
    const stop = output.matchedStop;
    yield { type: "finish", choice, reason: stop === undefined ? reason : "stop", stop };
  }
}

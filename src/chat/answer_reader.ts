/**
 * Engine events -> answer events: which choice a token belongs to, stop strings, the bound on the
 * thought, counts. Text is `output.ts`; submission is `answer.ts`.
 */
import type { EngineEvent, FinishReason, Generation } from "@/engine/request.ts";
import type { SamplingParams } from "@/sampling/params.ts";
import type { AnswerEvent, AnswerRequest } from "./answer.ts";
import { ChoiceOutput } from "./output.ts";
import type { ServedModel } from "./served_model.ts";

/** A generation of an answer: of all its choices, or of one whose thought was closed. */
export interface Source {
  readonly generation: Generation;
  /** The one choice that it continues; undefined = all of them. */
  readonly choice: number | undefined;
}

/** What follows a thought that was closed. */
export interface Continuation {
  readonly choice: number;
  /** Tokens of the choice so far, the closing ones included. */
  readonly ids: readonly number[];
  readonly params: SamplingParams;
}

interface ReadContext {
  readonly source: Source;
  readonly continueThought: (continuation: Continuation) => Generation;
}

interface ChoiceState {
  readonly output: ChoiceOutput;
  readonly ids: number[];
  /** The generation that counts; events of another one are leftovers. */
  generation: Generation;
  isFinished: boolean;
}

type TokenEvent = Extract<EngineEvent, { type: "token" }>;

/** Ends a thought in the model's place. */
const THOUGHT_END = "\n</think>\n\n";

/** The state of one answer. */
export class AnswerReader {
  readonly #request: AnswerRequest;
  readonly #model: ServedModel;
  readonly #params: SamplingParams;
  readonly #choices: readonly ChoiceState[];
  #cachedTokens = 0;
  #drafts = { accepted: 0, rejected: 0 };

  constructor(
    request: AnswerRequest,
    { model, params, first }: { model: ServedModel; params: SamplingParams; first: Generation },
  ) {
    const { choices, stops, skipSpecialTokens } = request.options;
    const { tokenizer } = model;
    const endTokenIds = new Set([...model.endTokenIds, ...params.stopTokenIds]);
    const { splitReasoning } = request;
    const options = { tokenizer, stops, splitReasoning, skipSpecialTokens, endTokenIds };
    this.#request = request;
    this.#model = model;
    this.#params = params;
    this.#choices = Array.from({ length: choices }, (): ChoiceState => ({
      output: new ChoiceOutput(options),
      ids: [],
      generation: first,
      isFinished: false,
    }));
  }

  /** What one engine event tells the client. */
  *read(event: EngineEvent, context: ReadContext): Generator<AnswerEvent> {
    const { source } = context;
    if (event.type === "token" || event.type === "finish") {
      const choice = source.choice ?? event.choice;
      const state = this.#choices[choice]!;
      // Steps that ran before the engine heard of a stop string or a closed thought.
      if (state.isFinished || state.generation !== source.generation) return;
      if (event.type === "token") yield* this.#readToken(event, { choice, context });
      else yield* this.#finish(choice, event.reason);
    } else if (source.choice === undefined) {
      if (event.type === "prefill") this.#cachedTokens = event.cached;
      yield event;
    }
  }

  /** The last event. */
  usage(): AnswerEvent {
    const sum = (count: (output: ChoiceOutput) => number) =>
      this.#choices.reduce((total, { output }) => total + count(output), 0);
    return {
      type: "usage",
      usage: {
        promptTokens: this.#request.promptIds.length,
        cachedTokens: this.#cachedTokens,
        completionTokens: sum((output) => output.tokenCount),
        reasoningTokens: sum((output) => output.reasoningTokenCount),
        acceptedDrafts: this.#drafts.accepted,
        rejectedDrafts: this.#drafts.rejected,
      },
    };
  }

  *#readToken(
    event: TokenEvent,
    { choice, context }: { choice: number; context: ReadContext },
  ): Generator<AnswerEvent> {
    const { output, ids, generation } = this.#choices[choice]!;
    ids.push(event.id);
    this.#drafts.accepted += event.drafts?.accepted ?? 0;
    this.#drafts.rejected += event.drafts?.rejected ?? 0;
    yield { type: "delta", choice, ...output.push(event) };
    if (output.matchedStop !== undefined) {
      generation.finishChoice(event.choice);
      yield* this.#finish(choice, "stop");
    } else if (this.#isThoughtTooLong(output)) {
      generation.finishChoice(event.choice);
      yield* this.#closeThought(choice, context);
    }
  }

  #isThoughtTooLong({ isThinking, reasoningTokenCount }: ChoiceOutput): boolean {
    const { thoughtTokensMax = Infinity } = this.#request;
    return isThinking && reasoningTokenCount >= thoughtTokensMax;
  }

  *#closeThought(choice: number, { continueThought }: ReadContext): Generator<AnswerEvent> {
    const { tokenizer, promptTokens } = this.#model;
    const state = this.#choices[choice]!;
    const { thinkEnd } = promptTokens;
    const specialTokens = new Set(thinkEnd === undefined ? [] : [thinkEnd]);
    for (const id of tokenizer.encode(THOUGHT_END, { specialTokens })) {
      state.ids.push(id);
      yield { type: "delta", choice, ...state.output.push({ id, logprob: undefined, top: [] }) };
    }
    const { tokenCount } = state.output;
    const maxTokens = this.#params.maxTokens - tokenCount;
    if (maxTokens < 1) return yield* this.#finish(choice, "length");
    const minTokens = Math.max(0, this.#params.minTokens - tokenCount);
    const params = { ...this.#params, maxTokens, minTokens };
    state.generation = continueThought({ choice, ids: state.ids, params });
  }

  *#finish(choice: number, reason: FinishReason): Generator<AnswerEvent> {
    const state = this.#choices[choice]!;
    state.isFinished = true;
    const rest = state.output.finish(reason);
    if (rest.reasoning !== "" || rest.content !== "" || rest.logprobs.length > 0) {
      yield { type: "delta", choice, ...rest };
    }
    const stop = state.output.matchedStop;
    yield { type: "finish", choice, reason: stop === undefined ? reason : "stop", stop };
  }
}

/**
 * Raw prompts -> continuations: texts or token ids as they are, no grammar, no pictures. Several
 * prompts run side by side; choice `i` of prompt `p` has the number `p · choices + i`.
 */
import type { TokenLogprob } from "@/engine/request.ts";
import { OperatingError } from "@/errors.ts";
import { type AnswerEvent, type AnswerOptions, startAnswer, type Usage } from "./answer.ts";
import { MergedEvents } from "./merged_events.ts";
import type { ServedModel } from "./served_model.ts";

export interface CompletionRequest {
  readonly id: string;
  readonly prompts: readonly RawPrompt[];
  readonly options: AnswerOptions;
  /** Yields the prompt itself before its continuation. */
  readonly echo: boolean;
}

/** A prompt with its encoding. */
export interface RawPrompt {
  readonly text: string;
  readonly ids: readonly number[];
}

type PromptEntries = Extract<AnswerEvent, { type: "prompt_logprobs" }>["entries"];

export type CompletionEvent =
  | Exclude<AnswerEvent, { type: "prompt_logprobs" }>
  /** Before the choice's deltas; `entries` when log-probabilities were asked for. */
  | {
    readonly type: "echo";
    readonly choice: number;
    readonly prompt: RawPrompt;
    readonly entries: PromptEntries | undefined;
  };

/** What one token of a prompt is worth: undefined for the first, which nothing precedes. */
export type PromptEntry = { readonly chosen: TokenLogprob; readonly top: readonly TokenLogprob[] };

/**
 * Encodes or checks one prompt. Special-token strings in a text match. Throws OperatingError
 * `invalid_request` for an empty prompt, ids outside the vocabulary, and image placeholders, for
 * which a raw prompt has no pictures.
 */
export function encodeRawPrompt(
  prompt: string | readonly number[],
  { model, field }: { model: ServedModel; field: string },
): RawPrompt {
  const { tokenizer, promptTokens, usableVocabulary } = model;
  const isText = typeof prompt === "string";
  const ids = isText ? tokenizer.encode(prompt, { specialTokens: "all" }) : prompt;
  const refuse = (problem: string) => {
    return new OperatingError("invalid_request", `Cannot use prompt: ${problem}`, { field });
  };
  if (ids.length === 0) throw refuse("it has no tokens");
  for (const [index, id] of ids.entries()) {
    if (id >= usableVocabulary || id < 0) {
      throw refuse(`token id ${id} at ${index} is outside the vocabulary of ${usableVocabulary}`);
    }
    if (id === promptTokens.imageContext) {
      throw refuse(`it has an image placeholder at token ${index}, but no picture goes with it`);
    }
  }
  return { text: isText ? prompt : tokenizer.decode(ids), ids };
}

/**
 * Submits all prompts at once; throws and yields as `startAnswer`, with one `usage` event over all
 * prompts at the end. Prefill events count over all prompts.
 */
export function startCompletion(
  request: CompletionRequest,
  { model, signal }: { model: ServedModel; signal: AbortSignal },
): AsyncGenerator<CompletionEvent> {
  const left = new AbortController();
  const anySignal = AbortSignal.any([signal, left.signal]);
  const end = () => left.abort(new OperatingError("cancelled", "Request was cancelled"));
  try {
    const answers = request.prompts.map((_, index) =>
      startPrompt(request, { index, model, signal: anySignal })
    );
    return sumUsage(answers, { prompts: request.prompts, end });
  } catch (error) {
    end();
    throw error;
  }
}

interface PromptContext {
  readonly index: number;
  readonly model: ServedModel;
  readonly signal: AbortSignal;
}

function startPrompt(
  { id, prompts, options, echo }: CompletionRequest,
  { index, model, signal }: PromptContext,
): AsyncGenerator<CompletionEvent> {
  const prompt = prompts[index]!;
  const promptLogprobs = echo && options.sampling.topLogprobs !== undefined;
  // The engine generates at least one token; a request for none takes what precedes it.
  const isScoringOnly = options.maxTokens === 0;
  const events = startAnswer({
    id: prompts.length === 1 ? id : `${id}-${index}`,
    promptIds: prompt.ids,
    tiles: [],
    options: isScoringOnly ? { ...options, maxTokens: 1, choices: 1 } : options,
    splitReasoning: false,
    thoughtTokensMax: undefined,
    promptLogprobs,
    field: prompts.length === 1 ? "prompt" : `prompt[${index}]`,
  }, { model, signal });
  return readPrompt(events, {
    prompt,
    isScoringOnly,
    echo: !echo ? "none" : promptLogprobs ? "with_logprobs" : "text",
    firstChoice: index * options.choices,
    choiceCount: options.choices,
  });
}

interface PromptReading {
  readonly prompt: RawPrompt;
  readonly echo: "none" | "text" | "with_logprobs";
  readonly isScoringOnly: boolean;
  readonly firstChoice: number;
  readonly choiceCount: number;
}

async function* readPrompt(
  events: AsyncGenerator<AnswerEvent>,
  { prompt, echo, isScoringOnly, firstChoice, choiceCount }: PromptReading,
): AsyncGenerator<CompletionEvent> {
  const choices = Array.from({ length: choiceCount }, (_, index) => firstChoice + index);
  const echoes = (entries: PromptEntries | undefined) =>
    choices.map((choice): CompletionEvent => ({ type: "echo", choice, prompt, entries }));
  if (echo === "text") yield* echoes(undefined);
  for await (const event of events) {
    if (event.type === "prompt_logprobs") {
      if (echo === "with_logprobs") yield* echoes(event.entries);
    } else if (event.type === "delta" || event.type === "finish") {
      if (!isScoringOnly) yield { ...event, choice: firstChoice + event.choice };
    } else if (event.type === "usage" && isScoringOnly) {
      for (const choice of choices) {
        yield { type: "finish", choice, reason: "length", stop: undefined };
      }
      yield { type: "usage", usage: { ...event.usage, completionTokens: 0, reasoningTokens: 0 } };
    } else {
      yield event;
    }
  }
}

/** The answers' events as they come, with sums over all prompts. */
async function* sumUsage(
  answers: readonly AsyncGenerator<CompletionEvent>[],
  { prompts, end }: { prompts: readonly RawPrompt[]; end: () => void },
): AsyncGenerator<CompletionEvent> {
  const events = new MergedEvents<number, CompletionEvent>(end);
  for (const [index, answer] of answers.entries()) events.add(index, answer);
  const total = prompts.reduce((sum, prompt) => sum + prompt.ids.length, 0);
  const prefills = prompts.map(() => ({ computed: 0, cached: 0 }));
  const usages: Usage[] = [];
  for await (const { source, event } of events) {
    if (event.type === "prefill") {
      prefills[source] = event;
      const sum = (key: "computed" | "cached") => prefills.reduce((s, p) => s + p[key], 0);
      yield { type: "prefill", computed: sum("computed"), cached: sum("cached"), total };
    } else if (event.type === "usage") {
      usages.push(event.usage);
    } else {
      yield event;
    }
  }
  const sum = (key: keyof Usage) => usages.reduce((count, usage) => count + usage[key], 0);
  yield {
    type: "usage",
    usage: {
      promptTokens: sum("promptTokens"),
      cachedTokens: sum("cachedTokens"),
      completionTokens: sum("completionTokens"),
      reasoningTokens: sum("reasoningTokens"),
      acceptedDrafts: sum("acceptedDrafts"),
      rejectedDrafts: sum("rejectedDrafts"),
    },
  };
}

/**
 * Answers in OpenAI's spelling that chats and raw completions have in common: usage, token names,
 * and how a handler turns into a stream.
 */
import type { AnswerEvent, Usage } from "@/chat/answer.ts";
import type { TokenEntry } from "@/chat/output.ts";
import type { ServedModel } from "@/chat/served_model.ts";
import type { TokenLogprob } from "@/engine/request.ts";
import { limits } from "@/limits.ts";
import { describeError } from "./errors.ts";
import type { Exchange } from "./exchange.ts";
import type { Services } from "./services.ts";
import { eventStreamResponse } from "./sse.ts";

/** Fields that open every answer and chunk. */
export interface AnswerHead {
  readonly id: string;
  readonly object: string;
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
}

export function answerHead(
  { id, object, model }: { id: string; object: string; model: ServedModel },
  services: Services,
): AnswerHead {
  const created = Math.floor(services.clock.epochMs() / 1000);
  return { id, object, created, model: model.id, system_fingerprint: model.numericClass };
}

export function usageBody(usage: Usage) {
  return {
    prompt_tokens: usage.promptTokens,
    completion_tokens: usage.completionTokens,
    total_tokens: usage.promptTokens + usage.completionTokens,
    prompt_tokens_details: { cached_tokens: usage.cachedTokens },
    completion_tokens_details: {
      reasoning_tokens: usage.reasoningTokens,
      accepted_prediction_tokens: usage.acceptedDrafts,
      rejected_prediction_tokens: usage.rejectedDrafts,
    },
  };
}

/** A chunk without choices that tells how far the prompt is. */
export function prefillBody(
  head: AnswerHead,
  { computed, total, cached }: Extract<AnswerEvent, { type: "prefill" }>,
) {
  return { ...head, choices: [], prefill: { computed, total, cached } };
}

/** JSON has no infinity; OpenAI writes an impossible token so. */
const IMPOSSIBLE_LOGPROB = -9999;

export function logprobNumber(logprob: number): number {
  return Math.max(logprob, IMPOSSIBLE_LOGPROB);
}

/** Log-probabilities of a chat's tokens in OpenAI's form. */
export function chatLogprobs(entries: readonly TokenEntry[], { tokenizer }: ServedModel) {
  const describe = ({ id, logprob }: TokenLogprob) => ({
    token: tokenizer.tokenText(id),
    logprob: logprobNumber(logprob),
    bytes: [...tokenizer.tokenBytes(id)],
  });
  return {
    content: entries.map((entry) => ({
      ...describe(entry),
      top_logprobs: entry.top.map(describe),
    })),
    refusal: null,
  };
}

/**
 * The response to a streaming request. Errors of the start (bad picture, full queue) get their own
 * status when they come within `limits.streamHeadersMs`; later ones become an event. The headers
 * and `first` never wait longer than that, whatever the start has to load.
 */
export async function streamAnswer<T>(
  { start, first, chunks }: {
    start: Promise<T>;
    first: readonly object[];
    chunks: (started: T) => AsyncIterable<object>;
  },
  { exchange, services }: { exchange: Exchange; services: Services },
): Promise<Response> {
  await settledWithin(start, limits.streamHeadersMs);
  exchange.keepOpen();
  async function* events(): AsyncGenerator<string> {
    for (const chunk of first) yield JSON.stringify(chunk);
    for await (const chunk of chunks(await start)) yield JSON.stringify(chunk);
    yield "[DONE]";
  }
  return eventStreamResponse({
    events: events(),
    opensWithComment: first.length === 0,
    pingMs: services.streamPingMs,
    describeError: (error) => {
      exchange.logError(error);
      return JSON.stringify(describeError(error, exchange.id).body);
    },
    onCancel: () => exchange.leave(),
    onEnd: (isComplete) => exchange.end(isComplete ? 200 : 499),
  });
}

/** Waits for a promise, but not longer than `ms`; throws what it throws in that time. */
async function settledWithin(promise: Promise<unknown>, ms: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const patience = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  try {
    // The race also handles a rejection that comes later: by then the stream reports it.
    await Promise.race([promise, patience]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * `POST /v1/completions`: raw prompts (texts or token ids) continued, whole or as a stream, with
 * echo and log-probabilities.
 */
import type { AnswerEvent } from "@/chat/answer.ts";
import { type CompletionEvent, encodeRawPrompt, startCompletion } from "@/chat/completion.ts";
import type { RawPrompt } from "@/chat/completion.ts";
import type { ServedModel } from "@/chat/served_model.ts";
import { type AnswerHead, answerHead, prefillBody, streamAnswer, usageBody } from "./answers.ts";
import { joinLogprobs, type TextLogprobs, TextLogprobsWriter } from "./completion_logprobs.ts";
import type { AppContext } from "./exchange.ts";
import { readOptions } from "./request_fields.ts";
import { type CompletionBody, completionSchema } from "./schema.ts";
import type { Services } from "./services.ts";
import { parseBody } from "./validation.ts";

interface CompletionForm {
  readonly id: string;
  readonly model: ServedModel;
  readonly prompts: readonly RawPrompt[];
  readonly choicesPerPrompt: number;
  /** Candidates per token; undefined = no log-probabilities. */
  readonly topLogprobs: number | undefined;
  readonly skipSpecialTokens: boolean;
  readonly withTokenIds: boolean;
  readonly withUsage: boolean;
  readonly withProgress: boolean;
}

export async function handleCompletion(
  context: AppContext,
  services: Services,
): Promise<Response> {
  const exchange = context.get("exchange");
  const body = parseBody(completionSchema, await context.var.exchange.readBody());
  const model = services.findModel(body.model);
  const topLogprobs = body.logprobs ?? undefined;
  const options = readOptions(body, {
    model,
    maxTokens: body.max_tokens ?? undefined,
    topLogprobs,
  });
  const prompts = readPrompts(body, model);
  const form: CompletionForm = {
    id: `cmpl-${services.newId()}`,
    model,
    prompts,
    choicesPerPrompt: options.choices,
    topLogprobs,
    skipSpecialTokens: options.skipSpecialTokens,
    withTokenIds: body.return_token_ids === true,
    withUsage: body.stream_options?.include_usage === true,
    withProgress: body.return_progress === true,
  };
  const events = startCompletion(
    { id: form.id, prompts, options, echo: body.echo === true },
    { model, signal: exchange.signal },
  );
  const head = answerHead({ ...form, object: "text_completion" }, services);
  if (body.stream !== true) return Response.json(await collect(events, form, head));
  return await streamAnswer(
    { start: Promise.resolve(events), first: [], chunks: (e) => writeChunks(e, form, head) },
    { exchange, services },
  );
}

function readPrompts({ prompt }: CompletionBody, model: ServedModel): RawPrompt[] {
  const isList = Array.isArray(prompt) && typeof prompt[0] !== "number";
  if (!isList) {
    return [encodeRawPrompt(prompt as string | number[], { model, field: "prompt" })];
  }
  return (prompt as (string | number[])[]).map((item, index) =>
    encodeRawPrompt(item, { model, field: `prompt[${index}]` })
  );
}

/** The state of each choice: where its text stands, for `text_offset`. */
class ChoiceWriter {
  readonly #form: CompletionForm;
  readonly #index: number;
  readonly #logprobs: TextLogprobsWriter;
  #isFirst = true;

  constructor(form: CompletionForm, index: number) {
    this.#form = form;
    this.#index = index;
    const { model, topLogprobs: topCount = 0, skipSpecialTokens } = form;
    this.#logprobs = new TextLogprobsWriter(model.tokenizer, { topCount, skipSpecialTokens });
  }

  /** The choice's part of an event, or undefined when there is nothing to tell. */
  write(event: CompletionEvent) {
    if (event.type === "echo") {
      const { text, ids } = event.prompt;
      const { entries } = event;
      return this.#part({ text, tokenIds: [], finishReason: null }, () => {
        return this.#logprobs.writePrompt({ text, ids, entries: entries ?? [] });
      });
    }
    if (event.type === "finish") {
      return this.#part({ text: "", tokenIds: [], finishReason: event.reason }, () => undefined);
    }
    if (event.type !== "delta") return undefined;
    const { content: text, tokenIds, logprobs } = event;
    const isSilent = text === "" && !(this.#form.withTokenIds && tokenIds.length > 0) &&
      logprobs.length === 0;
    if (isSilent) return undefined;
    return this.#part({ text, tokenIds, finishReason: null }, () => {
      return this.#logprobs.write(logprobs);
    });
  }

  #part(
    { text, tokenIds, finishReason }: {
      text: string;
      tokenIds: readonly number[];
      finishReason: string | null;
    },
    logprobs: () => TextLogprobs | undefined,
  ) {
    const { topLogprobs, withTokenIds, prompts, choicesPerPrompt } = this.#form;
    const promptIds = this.#isFirst
      ? prompts[Math.floor(this.#index / choicesPerPrompt)]!.ids
      : undefined;
    this.#isFirst = false;
    return {
      index: this.#index,
      text,
      logprobs: topLogprobs === undefined ? null : logprobs() ?? null,
      finish_reason: finishReason,
      ...(withTokenIds ? { token_ids: tokenIds } : {}),
      ...(withTokenIds && promptIds !== undefined ? { prompt_token_ids: promptIds } : {}),
    };
  }
}

type ChoicePart = NonNullable<ReturnType<ChoiceWriter["write"]>>;

function choiceWriters(form: CompletionForm): ChoiceWriter[] {
  const count = form.prompts.length * form.choicesPerPrompt;
  return Array.from({ length: count }, (_, index) => new ChoiceWriter(form, index));
}

async function collect(
  events: AsyncIterable<CompletionEvent>,
  form: CompletionForm,
  head: AnswerHead,
) {
  const writers = choiceWriters(form);
  const parts: ChoicePart[][] = writers.map(() => []);
  let usage = undefined;
  for await (const event of events) {
    if (event.type === "usage") usage = usageBody(event.usage);
    if (!("choice" in event)) continue;
    const part = writers[event.choice]!.write(event);
    if (part !== undefined) parts[event.choice]!.push(part);
  }
  return { ...head, choices: parts.map(joinParts), usage };
}

function joinParts(parts: readonly ChoicePart[], index: number): object {
  const ids = parts.flatMap((part) => "token_ids" in part ? part.token_ids : []);
  const promptIds = parts.find((part) => "prompt_token_ids" in part)?.prompt_token_ids;
  const logprobs = parts.map((part) => part.logprobs).filter((item) => item !== null);
  return {
    index,
    text: parts.map((part) => part.text).join(""),
    logprobs: logprobs.length > 0 ? joinLogprobs(logprobs) : null,
    finish_reason: parts.at(-1)?.finish_reason ?? null,
    ...(promptIds !== undefined ? { token_ids: ids, prompt_token_ids: promptIds } : {}),
  };
}

async function* writeChunks(
  events: AsyncIterable<CompletionEvent>,
  form: CompletionForm,
  head: AnswerHead,
): AsyncGenerator<object> {
  const writers = choiceWriters(form);
  const { withUsage, withProgress } = form;
  for await (const event of events) {
    if ("choice" in event) {
      const part = writers[event.choice]!.write(event);
      if (part === undefined) continue;
      yield { ...head, choices: [part], ...(withUsage ? { usage: null } : {}) };
    } else if (event.type === "prefill") {
      if (withProgress) yield prefillBody(head, event satisfies AnswerEvent);
    } else if (withUsage) {
      yield { ...head, choices: [], usage: usageBody(event.usage) };
    }
  }
}

/**
 * `POST /v1/chat/completions`: parses, asks the chat layer, and writes the answer whole or as a
 * stream.
 */
import type { AnswerEvent } from "@/chat/answer.ts";
import { prepareChat, startChat } from "@/chat/chat.ts";
import type { TokenEntry } from "@/chat/output.ts";
import type { ServedModel } from "@/chat/served_model.ts";
import {
  type AnswerHead,
  answerHead,
  chatLogprobs,
  prefillBody,
  streamAnswer,
  usageBody,
} from "./answers.ts";
import type { AppContext } from "./exchange.ts";
import { readConversation, readOptions } from "./request_fields.ts";
import { type ChatCompletionBody, chatCompletionSchema } from "./schema.ts";
import type { Services } from "./services.ts";
import { parseBody } from "./validation.ts";

/** A submitted chat. */
interface StartedChat {
  readonly promptIds: readonly number[];
  readonly events: AsyncGenerator<AnswerEvent>;
}

/** What the writers need to know of the request. */
interface ChatForm {
  readonly id: string;
  readonly model: ServedModel;
  readonly choices: number;
  readonly withLogprobs: boolean;
  readonly withTokenIds: boolean;
  readonly withUsage: boolean;
  readonly withProgress: boolean;
}

export async function handleChatCompletion(
  context: AppContext,
  services: Services,
): Promise<Response> {
  const exchange = context.get("exchange");
  const { signal } = exchange;
  const body = parseBody(chatCompletionSchema, await context.var.exchange.readBody());
  const model = services.findModel(body.model);
  const conversation = readConversation(body);
  const options = readOptions(body, {
    model,
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? undefined,
    topLogprobs: body.logprobs === true ? body.top_logprobs ?? 0 : undefined,
  });
  const form = chatForm(body, { model, id: `chatcmpl-${services.newId()}` });
  const start = async (): Promise<StartedChat> => {
    const prompt = await prepareChat(conversation, { model, desk: services.desk, signal });
    const events = startChat({ id: form.id, options }, { prompt, model, signal });
    return { promptIds: prompt.ids, events };
  };
  if (body.stream !== true) return Response.json(await collect(await start(), form, services));
  const head = answerHead({ ...form, object: "chat.completion.chunk" }, services);
  const writer = new ChunkWriter(form, head);
  return await streamAnswer(
    { start: start(), first: writer.roles(), chunks: (started) => writer.chunks(started) },
    { exchange, services },
  );
}

function chatForm(
  body: ChatCompletionBody,
  { model, id }: { model: ServedModel; id: string },
): ChatForm {
  return {
    id,
    model,
    choices: body.n ?? 1,
    withLogprobs: body.logprobs === true,
    withTokenIds: body.return_token_ids === true,
    withUsage: body.stream_options?.include_usage === true,
    withProgress: body.return_progress === true,
  };
}

/** What one choice has gathered for an answer that is written whole. */
interface Gathered {
  content: string;
  reasoning: string;
  readonly tokenIds: number[];
  readonly logprobs: TokenEntry[];
  finishReason: string | null;
}

async function collect({ events, promptIds }: StartedChat, form: ChatForm, services: Services) {
  const choices = Array.from({ length: form.choices }, (): Gathered => ({
    content: "",
    reasoning: "",
    tokenIds: [],
    logprobs: [],
    finishReason: null,
  }));
  let usage = undefined;
  for await (const event of events) {
    if (event.type === "usage") {
      usage = usageBody(event.usage);
    } else if (event.type === "delta") {
      const choice = choices[event.choice]!;
      choice.content += event.content;
      choice.reasoning += event.reasoning;
      choice.tokenIds.push(...event.tokenIds);
      choice.logprobs.push(...event.logprobs);
    } else if (event.type === "finish") {
      choices[event.choice]!.finishReason = event.reason;
    }
  }
  return {
    ...answerHead({ ...form, object: "chat.completion" }, services),
    choices: choices.map((choice, index) => ({
      index,
      message: {
        role: "assistant",
        content: choice.content,
        ...(choice.reasoning === "" ? {} : { reasoning_content: choice.reasoning }),
        refusal: null,
      },
      logprobs: form.withLogprobs ? chatLogprobs(choice.logprobs, form.model) : null,
      finish_reason: choice.finishReason,
      ...(form.withTokenIds ? { token_ids: choice.tokenIds, prompt_token_ids: promptIds } : {}),
    })),
    usage,
  };
}

/** Writes the chunks of a stream: roles, deltas, one finish per choice, usage on request. */
class ChunkWriter {
  readonly #form: ChatForm;
  readonly #head: AnswerHead;

  constructor(form: ChatForm, head: AnswerHead) {
    this.#form = form;
    this.#head = head;
  }

  roles(): object[] {
    return Array.from({ length: this.#form.choices }, (_, index) =>
      this.#chunk({
        index,
        delta: { role: "assistant", content: "" },
        logprobs: null,
        finish_reason: null,
      }));
  }

  async *chunks({ events, promptIds }: StartedChat): AsyncGenerator<object> {
    const { withTokenIds, withUsage, withProgress } = this.#form;
    const isFirst = new Array<boolean>(this.#form.choices).fill(true);
    for await (const event of events) {
      if (event.type === "delta") {
        if (!this.#isVisible(event)) continue;
        const prompt = withTokenIds && isFirst[event.choice] ? { prompt_token_ids: promptIds } : {};
        isFirst[event.choice] = false;
        yield this.#delta(event, prompt);
      } else if (event.type === "finish") {
        const { choice: index, reason } = event;
        yield this.#chunk({ index, delta: {}, logprobs: null, finish_reason: reason });
      } else if (event.type === "prefill") {
        if (withProgress) yield prefillBody(this.#head, event);
      } else if (event.type === "usage" && withUsage) {
        yield { ...this.#head, choices: [], usage: usageBody(event.usage) };
      }
    }
  }

  #delta(event: Extract<AnswerEvent, { type: "delta" }>, prompt: object): object {
    const { withLogprobs, withTokenIds, model } = this.#form;
    const { choice: index, content, reasoning, logprobs, tokenIds } = event;
    return this.#chunk({
      index,
      delta: {
        ...(reasoning === "" ? {} : { reasoning_content: reasoning }),
        ...(content === "" && reasoning !== "" ? {} : { content }),
      },
      logprobs: withLogprobs && logprobs.length > 0 ? chatLogprobs(logprobs, model) : null,
      finish_reason: null,
      ...(withTokenIds ? { token_ids: tokenIds, ...prompt } : {}),
    });
  }

  /** Half characters and held back text make deltas with nothing to tell. */
  #isVisible(event: Extract<AnswerEvent, { type: "delta" }>): boolean {
    const { withLogprobs, withTokenIds } = this.#form;
    return event.content !== "" || event.reasoning !== "" ||
      (withLogprobs && event.logprobs.length > 0) || (withTokenIds && event.tokenIds.length > 0);
  }

  #chunk(choice: object): object {
    // OpenAI's clients expect the field on every chunk once usage was asked for.
    return { ...this.#head, choices: [choice], ...(this.#form.withUsage ? { usage: null } : {}) };
  }
}

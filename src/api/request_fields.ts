/**
 * Parsed bodies -> the chat layer's requests: defaults, aliases, and the checks that need the model.
 * Together with `schema.ts` the only place that knows OpenAI's names of request fields.
 */
import type { AnswerOptions } from "@/chat/answer.ts";
import type { Conversation } from "@/chat/chat.ts";
import { listPictures, type Message, type Part, type Thinking } from "@/chat/message.ts";
import type { ServedModel } from "@/chat/served_model.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { freshSeed } from "@/random.ts";
import type { ConversationBody, GenerationBody, MessageBody, UserPartBody } from "./schema.ts";

/**
 * Sampling and stopping. Throws OperatingError `invalid_request` for token ids outside the model's
 * vocabulary.
 */
export function readOptions(
  body: GenerationBody,
  { model, maxTokens, topLogprobs }: {
    model: ServedModel;
    maxTokens: number | undefined;
    topLogprobs: number | undefined;
  },
): AnswerOptions {
  const minTokens = body.min_tokens ?? 0;
  if (maxTokens !== undefined && minTokens > maxTokens) {
    throw invalid("min_tokens", `must be at most max_tokens ${maxTokens}, got ${minTokens}`);
  }
  const stopTokenIds = body.stop_token_ids ?? [];
  for (const [index, id] of stopTokenIds.entries()) {
    checkTokenId(id, `stop_token_ids[${index}]`, model);
  }
  return {
    sampling: {
      temperature: body.temperature ?? 0,
      topK: body.top_k ?? 0,
      topP: body.top_p ?? 1,
      minP: body.min_p ?? 0,
      presencePenalty: body.presence_penalty ?? 0,
      frequencyPenalty: body.frequency_penalty ?? 0,
      repetitionPenalty: body.repetition_penalty ?? 1,
      logitBias: readLogitBias(body, model),
      seed: body.seed ?? freshSeed(),
      minTokens,
      ignoreEos: body.ignore_eos ?? false,
      stopTokenIds,
      topLogprobs,
    },
    maxTokens,
    choices: body.n ?? 1,
    stops: typeof body.stop === "string" ? [body.stop] : body.stop ?? [],
    skipSpecialTokens: body.skip_special_tokens ?? true,
    speculates: body.speculation ?? true,
  };
}

function readLogitBias(body: GenerationBody, model: ServedModel): ReadonlyMap<number, number> {
  const entries = Object.entries(body.logit_bias ?? {});
  const max = limits.logitBiasEntriesMax;
  if (entries.length > max) {
    throw invalid("logit_bias", `must have at most ${max} entries, got ${entries.length}`);
  }
  return new Map(entries.map(([key, bias]) => {
    checkTokenId(Number(key), `logit_bias.${key}`, model);
    return [Number(key), bias];
  }));
}

function checkTokenId(id: number, field: string, { usableVocabulary }: ServedModel): void {
  if (id < usableVocabulary) return;
  throw invalid(field, `token id ${id} is outside the vocabulary of ${usableVocabulary}`);
}

/**
 * Messages with their pictures. Throws OperatingError `invalid_request` for too many pictures and
 * `payload_too_large` for too much text.
 */
export function readConversation(body: ConversationBody): Conversation {
  const messages = body.messages.map((message, index) =>
    readMessage(message, `messages[${index}]`)
  );
  checkTextSize(messages);
  const tilesMax = body.max_tiles ?? undefined;
  const pictures = listPictures(messages, tilesMax);
  const imageCount = pictures.filter((picture) => picture.kind === "image").length;
  const frameCount = pictures.filter((picture) => picture.kind !== "image").length;
  checkCount("pictures", imageCount, limits.imagesPerRequestMax);
  checkCount("video frames", frameCount, limits.framesPerRequestMax);
  return { messages, tilesMax, thinking: readThinking(body) };
}

function checkTextSize(messages: readonly Message[]): void {
  let size = 0;
  for (const part of messages.flatMap((message) => message.parts)) {
    if (part.type === "text") size += part.text.length;
  }
  if (size <= limits.promptCharsMax) return;
  throw new OperatingError(
    "payload_too_large",
    `Cannot accept text: ${size} characters exceed ${limits.promptCharsMax}`,
    { field: "messages" },
  );
}

function checkCount(what: string, count: number, max: number): void {
  if (count > max) throw invalid("messages", `must have at most ${max} ${what}, got ${count}`);
}

function readMessage(message: MessageBody, path: string): Message {
  const role = message.role === "developer" ? "system" : message.role;
  const { content } = message;
  if (content === null || content === undefined) return { role, parts: [] };
  if (typeof content === "string") return { role, parts: [{ type: "text", text: content }] };
  const parts = content.map((part, index) => readPart(part, `${path}.content[${index}]`));
  return { role, parts };
}

function readPart(part: UserPartBody, path: string): Part {
  switch (part.type) {
    case "text":
      return { type: "text", text: part.text };
    case "image_url": {
      const { url, field } = readUrl(part.image_url, `${path}.image_url`);
      const detail = typeof part.image_url === "string" ? undefined : part.image_url.detail;
      return { type: "image", url, field, detail: detail ?? "auto" };
    }
    case "video_url":
      return { type: "clip", ...readUrl(part.video_url, `${path}.video_url`) };
    case "video":
      return {
        type: "video",
        frames: part.video.map((url, index) => ({ url, field: `${path}.video[${index}]` })),
      };
  }
}

function readUrl(value: string | { url: string }, path: string): { url: string; field: string } {
  return typeof value === "string"
    ? { url: value, field: path }
    : { url: value.url, field: `${path}.url` };
}

function readThinking({ thinking, reasoning_effort: effort }: ConversationBody): Thinking {
  const on = (budgetTokens?: number | null): Thinking => {
    return { enabled: true, budgetTokens: budgetTokens ?? undefined };
  };
  const off: Thinking = { enabled: false, budgetTokens: undefined };
  if (thinking === null || thinking === undefined) {
    const isOn = effort !== null && effort !== undefined && effort !== "none" &&
      effort !== "minimal";
    return isOn ? on() : off;
  }
  if (typeof thinking === "number") return thinking === 0 ? off : on(thinking);
  if (typeof thinking !== "object") return thinking === true || thinking === "on" ? on() : off;
  return thinking.type === "disabled" ? off : on(thinking.budget ?? thinking.budget_tokens);
}

function invalid(field: string, problem: string): OperatingError {
  return new OperatingError("invalid_request", `Invalid ${field}: ${problem}`, { field });
}

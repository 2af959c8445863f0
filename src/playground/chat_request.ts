/**
 * From what the page holds to the body of `POST /v1/chat/completions`, and to the same request as
 * a shell command. Pure: no network, no DOM.
 */
import type { Picture } from "./picture.ts";

export interface Settings {
  /** 0 picks the likeliest token; undefined leaves the choice to the server. */
  readonly temperature: number | undefined;
  /** undefined: what the context leaves. */
  readonly maxTokens: number | undefined;
  readonly seed: number | undefined;
  readonly thinking: boolean;
  /** Empty keeps the model's own system prompt. */
  readonly system: string;
}

export const defaultSettings: Settings = {
  temperature: 0,
  maxTokens: undefined,
  seed: undefined,
  thinking: false,
  system: "",
};

/** One question with its pictures and, once there is one, its answer. */
export interface Exchange {
  readonly question: string;
  readonly pictures: readonly Picture[];
  readonly answer: string;
}

export type ContentPart =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "image_url"; readonly image_url: { readonly url: string } };

export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string | readonly ContentPart[];
}

/** Messages of the whole conversation; an exchange without an answer must be the last one. */
export function chatMessages(exchanges: readonly Exchange[], system: string): ChatMessage[] {
  const messages: ChatMessage[] = [];
  if (system.trim() !== "") messages.push({ role: "system", content: system });
  for (const exchange of exchanges) {
    messages.push({ role: "user", content: userContent(exchange) });
    if (exchange.answer !== "") messages.push({ role: "assistant", content: exchange.answer });
  }
  return messages;
}

function userContent({ question, pictures }: Exchange): string | ContentPart[] {
  if (pictures.length === 0) return question;
  const parts: ContentPart[] = pictures.map((picture) => ({
    type: "image_url",
    image_url: { url: picture.url },
  }));
  if (question !== "") parts.push({ type: "text", text: question });
  return parts;
}

/** Body of the streaming request. Fields that the visitor left empty are left out. */
export function chatBody(
  model: string,
  messages: readonly ChatMessage[],
  settings: Settings,
): Record<string, unknown> {
  return {
    ...(model === "" ? {} : { model }),
    messages,
    ...(settings.temperature === undefined ? {} : { temperature: settings.temperature }),
    ...(settings.maxTokens === undefined ? {} : { max_completion_tokens: settings.maxTokens }),
    ...(settings.seed === undefined ? {} : { seed: settings.seed }),
    thinking: settings.thinking,
    stream: true,
    stream_options: { include_usage: true },
    return_progress: true,
  };
}

/**
 * The request as a shell command that works when pasted: the body goes through a here-document,
 * because pictures exceed the length of an argument.
 */
export function curlCommand(
  origin: string,
  body: Readonly<Record<string, unknown>>,
  options: { readonly withKey: boolean },
): string {
  const key = options.withKey ? ` \\\n  -H "Authorization: Bearer $API_KEY"` : "";
  return `curl -N ${origin}/v1/chat/completions \\\n  -H 'Content-Type: application/json'${key}` +
    ` \\\n  -d @- <<'JSON'\n${JSON.stringify(body, null, 2)}\nJSON`;
}

/** The command for reading: data: URLs are cut after their first characters. */
export function shortenDataUrls(command: string): string {
  return command.replace(
    /(data:image\/[a-z]+;base64,[A-Za-z0-9+/]{24})[A-Za-z0-9+/=]+/g,
    (whole, start: string) => `${start}… (${whole.length.toLocaleString("en")} characters)`,
  );
}

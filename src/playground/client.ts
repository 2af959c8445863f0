/**
 * The page's view of the HTTP API: models, the prompt's rendering, one streamed chat answer. Turns
 * every failure into an `ApiError` with a text fit to show. Knows no DOM.
 */
import { serverEvents } from "@/web/event_stream.ts";
import type { TileGrid } from "./picture.ts";

export interface Connection {
  /** Empty when the server asks for none. */
  readonly apiKey: string;
  readonly fetch: typeof fetch;
}

/** What went wrong, in the server's own words where it spoke. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  /** Path of the request field at fault, when the server named one. */
  readonly field: string | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    message: string,
    options: {
      status?: number;
      field?: string | undefined;
      retryAfterSeconds?: number | undefined;
      cause?: unknown;
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.status = options.status ?? 0;
    this.field = options.field;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly cachedTokens: number;
}

export type ChatEvent =
  | { readonly type: "text" | "thinking"; readonly text: string }
  | { readonly type: "progress"; readonly processed: number; readonly total: number }
  | { readonly type: "finish"; readonly reason: string }
  | { readonly type: "usage"; readonly usage: Usage };

export interface ListedModel {
  readonly id: string;
  /** Path of the files with which a page can run it; undefined when they are not given out. */
  readonly files: string | undefined;
}

/** The served models, in the server's order. */
export async function listModels(connection: Connection): Promise<ListedModel[]> {
  const body = await call(connection, "/v1/models", { method: "GET" });
  return list(record(body).data).map(record)
    .map((model) => ({ id: text(model.id), files: text(model.files) || undefined }))
    .filter(({ id }) => id !== "");
}

/** How the server cuts the pictures of `messages`, in their order. */
export async function pictureGrids(
  connection: Connection,
  request: { readonly model?: string; readonly messages: unknown },
  signal: AbortSignal,
): Promise<TileGrid[]> {
  const body = await call(connection, "/render", {
    method: "POST",
    body: JSON.stringify(request),
    signal,
  });
  return list(record(body).images).map((entry) => {
    const image = record(entry);
    const grid = record(image.grid);
    const spans = list(image.spans).map(record);
    return {
      columns: count(grid.columns),
      rows: count(grid.rows),
      tileCount: count(image.tiles),
      tokenCount: spans.reduce((total, span) => total + count(span.count), 0),
    };
  });
}

/** Streams one answer. Ends normally only after the server's `[DONE]`; else throws. */
export async function* streamChat(
  connection: Connection,
  body: Readonly<Record<string, unknown>>,
  signal: AbortSignal,
): AsyncGenerator<ChatEvent> {
  const response = await send(connection, "/v1/chat/completions", {
    method: "POST",
    body: JSON.stringify(body),
    signal,
  });
  if (response.body === null) throw new ApiError("The server sent an empty answer");
  for await (const { data } of serverEvents(response.body)) {
    if (data === "[DONE]") return;
    yield* chunkEvents(record(parseJson(data)));
  }
  throw new ApiError("The connection ended before the answer was complete");
}

function* chunkEvents(chunk: Record<string, unknown>): Generator<ChatEvent> {
  if (chunk.error !== undefined) throw errorFrom(chunk, 0);
  const prefill = record(chunk.prefill);
  if (prefill.total !== undefined) {
    yield { type: "progress", processed: count(prefill.computed), total: count(prefill.total) };
  }
  for (const choice of list(chunk.choices).map(record)) {
    const delta = record(choice.delta);
    const thinking = text(delta.reasoning_content);
    if (thinking !== "") yield { type: "thinking", text: thinking };
    const answer = text(delta.content);
    if (answer !== "") yield { type: "text", text: answer };
    const reason = text(choice.finish_reason);
    if (reason !== "") yield { type: "finish", reason };
  }
  if (chunk.usage !== undefined && chunk.usage !== null) {
    const usage = record(chunk.usage);
    yield {
      type: "usage",
      usage: {
        promptTokens: count(usage.prompt_tokens),
        completionTokens: count(usage.completion_tokens),
        cachedTokens: count(record(usage.prompt_tokens_details).cached_tokens),
      },
    };
  }
}

async function call(connection: Connection, path: string, init: RequestInit): Promise<unknown> {
  const response = await send(connection, path, init);
  return parseJson(await response.text());
}

async function send(connection: Connection, path: string, init: RequestInit): Promise<Response> {
  const headers = new Headers({ "Content-Type": "application/json" });
  if (connection.apiKey !== "") headers.set("Authorization", `Bearer ${connection.apiKey}`);
  let response: Response;
  try {
    response = await connection.fetch(path, { ...init, headers });
  } catch (cause) {
    if (init.signal?.aborted) throw cause;
    // The engine of this page says itself what is wrong.
    const isTold = cause instanceof Error && "code" in cause;
    const message = isTold ? cause.message : "Cannot reach the server: is it still running?";
    throw new ApiError(message, { cause });
  }
  if (response.ok) return response;
  const body = await response.text();
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch (_notJson) {
    parsed = undefined; // a proxy's error page: the status alone is told
  }
  const retry = Number(response.headers.get("Retry-After") ?? Number.NaN);
  throw errorFrom(record(parsed), response.status, Number.isFinite(retry) ? retry : undefined);
}

function errorFrom(
  body: Record<string, unknown>,
  status: number,
  retryAfterSeconds?: number,
): ApiError {
  const error = record(body.error);
  const message = text(error.message) || `The server answered with status ${status}`;
  return new ApiError(message, {
    status,
    field: text(error.param) || undefined,
    retryAfterSeconds,
  });
}

function parseJson(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch (cause) {
    throw new ApiError("The server sent something that is not JSON", { cause });
  }
}

/** The value when it is an object, else an empty one: answers are read leniently. */
function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function count(value: unknown): number {
  return typeof value === "number" && value >= 0 ? value : 0;
}

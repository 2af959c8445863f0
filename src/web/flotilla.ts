/**
 * Vision-language models in a page: `loadModel` runs one in a worker of this page, and what it gives
 * answers chats like the HTTP API of the server, without one. Entry of the bundle `flotilla.js`; its
 * worker scripts and WebAssembly modules lie beside it.
 */
import { OperatingError } from "@/errors.ts";
import { probeFeatures } from "@/kernels/wasm/features.ts";
import type { Variant } from "@/kernels/wasm/variants.ts";
import type { Quantisation } from "@/weights/precision.ts";
import { askOnce, EngineClient } from "./engine_client.ts";
import { serverEvents } from "./event_stream.ts";
import type {
  BackendChoice,
  EngineDescription,
  KeptModel,
  ModelLocation,
  OpenProgress,
} from "./protocol.ts";

export type { BackendChoice, EngineDescription, KeptModel, OpenProgress } from "./protocol.ts";
export { OperatingError };

/** Where the model is: a folder's URL (it lists its files in `files.json`), or chosen files. */
export type ModelSource =
  | string
  | URL
  | Iterable<File>
  /** What an earlier visit kept of that URL, without asking its server. */
  | { readonly kept: string | URL };

export interface LoadOptions {
  readonly source: ModelSource;
  /** Default: auto, the fastest that this browser has. */
  readonly backend?: BackendChoice;
  /** Threads of the kernels; default: one less than the machine has cores. */
  readonly threads?: number;
  /** Default: the best that this browser runs; "simd" needs neither threads nor shared memory. */
  readonly variant?: Variant;
  /** Rounds the weights while loading; default: as they are stored. */
  readonly quantisation?: Quantisation;
  /** Longest conversation in tokens; default: the model's limit, at most 8192. */
  readonly contextTokens?: number;
  readonly onProgress?: (progress: OpenProgress) => void;
  /** Ends loading. */
  readonly signal?: AbortSignal;
  /** Sent when files are asked for, e.g. `Authorization`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Folder of the worker scripts and of `wasm/`; default: that of this module. */
  readonly assets?: string | URL;
}

/** A picture: an encoded file, or a data:, blob: or http(s) URL that the page may fetch. */
export type Picture = Blob | string;

export type ContentPart =
  | { readonly type: "text"; readonly text: string }
  | {
    readonly type: "image_url";
    readonly image_url: Picture | { readonly url: Picture; readonly detail?: "auto" | "low" };
  };

export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string | readonly ContentPart[];
}

/** Fields of `POST /v1/chat/completions`, in its spelling; others of it may be added. */
export interface ChatOptions {
  readonly temperature?: number;
  readonly top_p?: number;
  readonly top_k?: number;
  readonly seed?: number;
  readonly max_completion_tokens?: number;
  readonly stop?: string | readonly string[];
  readonly thinking?: boolean | number;
  readonly [field: string]: unknown;
}

/** One chunk of a streamed answer, as the HTTP API sends it. */
export interface ChatChunk {
  readonly id: string;
  readonly model: string;
  readonly system_fingerprint: string;
  readonly choices: readonly {
    readonly index: number;
    readonly delta: {
      readonly role?: "assistant";
      readonly content?: string;
      readonly reasoning_content?: string;
    };
    readonly finish_reason: string | null;
    readonly token_ids?: readonly number[];
  }[];
  /** In the last chunk. */
  readonly usage?: {
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly total_tokens: number;
  };
  readonly prefill?: {
    readonly computed: number;
    readonly total: number;
    readonly cached: number;
  };
}

/** An opened model. */
export interface LocalModel {
  readonly description: EngineDescription;
  /**
   * Streams an answer. Throws OperatingError with the API's codes and field names; the reason of
   * `signal` when it fires. Leaving the loop ends the answer.
   */
  chat(
    messages: readonly ChatMessage[],
    options?: ChatOptions,
    control?: { readonly signal?: AbortSignal },
  ): AsyncGenerator<ChatChunk>;
  /** The whole HTTP API by path; give it to a client library in place of the network. */
  readonly fetch: typeof fetch;
  /** Ends the worker and gives its memory back; answers that run fail. */
  close(): void;
}

/**
 * Loads a model and starts its engine in a worker. Throws OperatingError: `unavailable` (browser,
 * memory, network), `checkpoint_invalid` (the files), `invalid_request` (an option); the reason of
 * `signal` when it fires.
 */
export async function loadModel(options: LoadOptions): Promise<LocalModel> {
  checkBrowser();
  const { backend = "auto", variant, threads, quantisation, contextTokens } = options;
  const client = await EngineClient.open({
    location: locationOf(options),
    run: { backend, variant, threads, quantisation, contextTokens },
    assets: assetsUrl(options),
    onProgress: options.onProgress,
    signal: options.signal,
    startWorker,
  });
  return {
    description: client.description,
    fetch: client.fetch,
    chat: (messages, chatOptions = {}, control = {}) =>
      streamChat(client, { ...chatOptions, messages, stream: true }, control.signal),
    close: () => client.close(),
  };
}

/** Frees the room that a model's files take in this browser; the options are those of `loadModel`. */
export async function forgetModel(
  source: string | URL,
  options: Pick<LoadOptions, "assets"> = {},
): Promise<void> {
  const worker = startWorker(new URL("engine_worker.js", assetsUrl(options)));
  await askOnce(worker, { kind: "forget", url: folderUrl(source) });
}

/** The models that earlier visits left in this browser. */
export async function keptModels(
  options: Pick<LoadOptions, "assets"> = {},
): Promise<KeptModel[]> {
  const worker = startWorker(new URL("engine_worker.js", assetsUrl(options)));
  const answer = await askOnce(worker, { kind: "list kept" });
  return answer.kind === "kept" ? [...answer.models] : [];
}

/** What this browser and page can run: `threadsReason` says why there are no threads. */
export function browserFeatures(): ReturnType<typeof probeFeatures> {
  return probeFeatures();
}

function locationOf({ source, headers = {} }: LoadOptions): ModelLocation {
  if (typeof source === "string" || source instanceof URL) {
    return { kind: "url", url: folderUrl(source), headers };
  }
  if ("kept" in source) return { kind: "kept", url: folderUrl(source.kept) };
  const files = [...source];
  const label = files[0]?.webkitRelativePath.split("/")[0] || "model";
  return { kind: "files", label, files };
}

function assetsUrl({ assets }: Pick<LoadOptions, "assets">): URL {
  return new URL("./", absolute(assets ?? import.meta.url));
}

function absolute(url: string | URL): URL {
  return new URL(url, globalThis.location?.href);
}

/** A folder's URL ends in a slash, whether or not it was written so. */
function folderUrl(url: string | URL): string {
  const { href } = absolute(url);
  return href.endsWith("/") ? href : `${href}/`;
}

/** Young language features that the engine uses, by name. */
function missingFeatures(): string[] {
  const has: Record<string, boolean> = {
    "WebAssembly SIMD": probeFeatures().simd,
    "Uint8Array.fromBase64": "fromBase64" in Uint8Array,
    "Symbol.dispose": "dispose" in Symbol,
    "Promise.try": "try" in Promise,
    Worker: typeof Worker === "function",
  };
  return Object.keys(has).filter((name) => !has[name]);
}

function checkBrowser(): void {
  const missing = missingFeatures();
  if (missing.length === 0) return;
  throw new OperatingError(
    "unavailable",
    `Cannot run models in this browser: it lacks ${missing.join(", ")}`,
  );
}

interface ScriptPolicy {
  createScriptURL(url: string): URL;
}

interface TrustedTypes {
  createPolicy(name: string, rules: { createScriptURL: (url: string) => string }): ScriptPolicy;
}

/** Pages that trust only named policies must allow "flotilla": the scripts are our own. */
const scriptPolicy = createScriptPolicy();

function createScriptPolicy(): ScriptPolicy | undefined {
  const { trustedTypes } = globalThis as { trustedTypes?: TrustedTypes };
  try {
    return trustedTypes?.createPolicy("flotilla", { createScriptURL: (url) => url });
  } catch (_notAllowed) {
    return undefined; // starting a worker then tells what the page's rules forbid
  }
}

function startWorker(url: URL): Worker {
  const trusted = scriptPolicy?.createScriptURL(url.href) ?? url;
  return new Worker(trusted, { type: "module", name: "flotilla" });
}

async function* streamChat(
  { fetch }: EngineClient,
  body: Readonly<Record<string, unknown>> & { messages: readonly ChatMessage[] },
  signal: AbortSignal | undefined,
): AsyncGenerator<ChatChunk> {
  const messages = await Promise.all(body.messages.map(withPictureUrls));
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ stream_options: { include_usage: true }, ...body, messages }),
    ...(signal && { signal }),
  });
  if (!response.ok) throw errorOf(await response.json());
  for await (const { data } of serverEvents(response.body!)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error !== undefined) throw errorOf(chunk);
    yield chunk;
  }
}

function errorOf(
  { error }: { error: { code: string; message: string; param: string | null } },
): OperatingError {
  const code = error.code as OperatingError["code"];
  return new OperatingError(code, error.message, { field: error.param ?? undefined });
}

/** Pictures given as files become data: URLs. */
async function withPictureUrls(message: ChatMessage): Promise<ChatMessage> {
  if (typeof message.content === "string") return message;
  const content = await Promise.all(message.content.map(async (part) => {
    if (part.type !== "image_url") return part;
    const given = part.image_url;
    if (typeof given === "string" || given instanceof Blob) {
      return { ...part, image_url: { url: await pictureUrl(given) } };
    }
    return { ...part, image_url: { ...given, url: await pictureUrl(given.url) } };
  }));
  return { ...message, content };
}

function pictureUrl(picture: Picture): Promise<string> {
  if (typeof picture === "string") return Promise.resolve(picture);
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result as string);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(picture);
  });
}

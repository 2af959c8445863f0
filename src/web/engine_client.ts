/**
 * The page's end of the engine's worker: starts it, waits until the model is open, and turns
 * requests of the HTTP API into messages, so that the worker looks like a server. Knows no chat.
 */
import { OperatingError } from "@/errors.ts";
import type {
  EngineDescription,
  FromWorker,
  ModelLocation,
  OpenProgress,
  RunOptions,
  ToWorker,
} from "./protocol.ts";

export interface ClientOptions {
  readonly location: ModelLocation;
  readonly run: RunOptions;
  /** Folder of the worker scripts. */
  readonly assets: URL;
  readonly onProgress?: ((progress: OpenProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly startWorker: (url: URL) => Worker;
}

/** A request that is not answered to its end. */
interface Pending {
  readonly response: PromiseWithResolvers<Response>;
  /** Of the body, once there is one. */
  controller?: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>;
  /** Resolves a pull. */
  pulled?: () => void;
  readonly detach: () => void;
}

export class EngineClient {
  readonly description: EngineDescription;
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;
  #closed: OperatingError | undefined;

  private constructor(worker: Worker, description: EngineDescription) {
    this.#worker = worker;
    this.description = description;
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#receive(data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#end(lost(event.message));
    };
  }

  /** Throws OperatingError, or the signal's reason; the worker has then ended. */
  static async open(options: ClientOptions): Promise<EngineClient> {
    const { location, run, assets, onProgress, signal, startWorker } = options;
    signal?.throwIfAborted();
    const worker = startWorker(new URL("engine_worker.js", assets));
    const opened = Promise.withResolvers<EngineDescription>();
    const abort = () => opened.reject(signal!.reason);
    signal?.addEventListener("abort", abort, { once: true });
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
      if (data.kind === "progress") onProgress?.(data.progress);
      else if (data.kind === "opened") opened.resolve(data.description);
      else if (data.kind === "failed") {
        opened.reject(new OperatingError(data.code, data.message));
      }
    };
    worker.onerror = (event) => {
      event.preventDefault();
      opened.reject(lost(event.message));
    };
    try {
      post(worker, { kind: "open", location, run, assets: String(assets) });
      return new EngineClient(worker, await opened.promise);
    } catch (error) {
      worker.terminate();
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** As the global `fetch`, but every path is answered by the engine. */
  readonly fetch: typeof fetch = async (input, init) => {
    const base = globalThis.location?.href ?? "http://page.invalid";
    const request = new Request(input instanceof Request ? input : new URL(input, base), init);
    const { signal } = request;
    signal.throwIfAborted();
    // Bodies are short: only pictures make them grow.
    const body = request.body === null ? undefined : await request.arrayBuffer();
    signal.throwIfAborted();
    if (this.#closed) throw this.#closed;
    const id = ++this.#lastId;
    const abort = () => this.#fail(id, signal.reason, { tell: true });
    signal.addEventListener("abort", abort, { once: true });
    const response = Promise.withResolvers<Response>();
    this.#pending.set(id, {
      response,
      detach: () => signal.removeEventListener("abort", abort),
    });
    const { pathname, search } = new URL(request.url);
    const { method } = request;
    const headers = [...request.headers];
    const message: ToWorker = {
      ...{ kind: "request", id, method, path: pathname + search, headers, body },
    };
    post(this.#worker, message, body ? [body] : []);
    return await response.promise;
  };

  /** Ends the worker and all its threads; requests that run fail. */
  close(): void {
    this.#end(new OperatingError("unavailable", "Cannot answer: the model was closed"));
  }

  #receive(message: FromWorker): void {
    if (message.kind === "response") return this.#respond(message);
    if (!("id" in message)) return;
    const pending = this.#pending.get(message.id);
    if (pending === undefined) return;
    if (message.kind === "chunk") pending.controller?.enqueue(message.bytes);
    else if (message.kind === "broken") {
      this.#fail(message.id, new OperatingError("internal", message.message));
    } else {
      this.#pending.delete(message.id);
      pending.detach();
      pending.controller?.close();
    }
    pending.pulled?.();
  }

  #respond({ id, status, headers }: Extract<FromWorker, { kind: "response" }>): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
      start: (controller) => void (pending.controller = controller),
      pull: () => {
        const { promise, resolve } = Promise.withResolvers<void>();
        pending.pulled = resolve;
        post(this.#worker, { kind: "pull", id });
        return promise;
      },
      cancel: () => {
        this.#pending.delete(id);
        pending.detach();
        post(this.#worker, { kind: "cancel", id });
      },
    });
    const isEmpty = status === 204 || status === 304;
    const init = { status, headers: headers as [string, string][] };
    pending.response.resolve(new Response(isEmpty ? null : body, init));
  }

  #fail(id: number, reason: unknown, { tell = false } = {}): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    pending.detach();
    pending.response.reject(reason);
    pending.controller?.error(reason);
    pending.pulled?.();
    if (tell) post(this.#worker, { kind: "cancel", id });
  }

  #end(reason: OperatingError): void {
    this.#closed ??= reason;
    for (const id of [...this.#pending.keys()]) this.#fail(id, reason);
    this.#worker.terminate();
  }
}

function post(worker: Worker, message: ToWorker, transfer: Transferable[] = []): void {
  worker.postMessage(message, transfer);
}

/** The answer of a fresh worker to one message that opens no model. Throws OperatingError. */
export async function askOnce(worker: Worker, message: ToWorker): Promise<FromWorker> {
  const { promise, resolve, reject } = Promise.withResolvers<FromWorker>();
  worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
    if (data.kind === "failed") reject(new OperatingError(data.code, data.message));
    else resolve(data);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    reject(lost(event.message));
  };
  try {
    post(worker, message);
    return await promise;
  } finally {
    worker.terminate();
  }
}

function lost(message: string | undefined): OperatingError {
  const why = message ? `: ${message}` : "";
  return new OperatingError("unavailable", `Cannot run the engine's worker${why}`);
}

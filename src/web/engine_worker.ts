/**
 * Entry of the worker that a page starts: opens one model, then answers requests whose bodies go
 * out chunk by chunk, as the page pulls them. The engine itself is `engine_host.ts`.
 */
import { config } from "zod";
import { systemClock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import { type OpenedEngine, openEngine } from "./engine_host.ts";
import { openFileStore } from "./file_store.ts";
import { forgetFiles, keptFiles } from "./model_files.ts";
import type { FromWorker, OpenProgress, ToWorker } from "./protocol.ts";

/** The part of a worker's global scope that is used here. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
}

/** A request whose answer is under way. */
interface Answering {
  readonly controller: AbortController;
  reader?: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
}

const scope = globalThis as unknown as WorkerScope;
/** Progress is told this often at most, in ms. */
const PROGRESS_MS = 50;

class EngineWorker {
  #engine: OpenedEngine | undefined;
  readonly #answering = new Map<number, Answering>();

  async receive(message: ToWorker): Promise<void> {
    if (message.kind === "open") await this.#open(message);
    else if (message.kind === "request") await this.#answer(message);
    else if (message.kind === "pull") await this.#pull(message.id);
    else if (message.kind === "cancel") this.#cancel(message.id);
    else if (message.kind === "forget") await this.#forget(message.url);
    else scope.postMessage({ kind: "kept", models: await keptFiles(await openFileStore()) });
  }

  async #open({ location, run, assets }: Extract<ToWorker, { kind: "open" }>): Promise<void> {
    const folder = new URL(assets);
    try {
      this.#engine = await openEngine({ location, run }, {
        store: await openFileStore(),
        fetch: (input, init) => fetch(input, init),
        exclusively,
        assets: folder,
        startWorker: (name) => new Worker(new URL(name, folder), { type: "module", name }),
        onProgress: progressTeller(),
      });
      scope.postMessage({ kind: "opened", description: this.#engine.description });
    } catch (error) {
      scope.postMessage({ kind: "failed", ...failureOf(error) });
    }
  }

  async #answer(message: Extract<ToWorker, { kind: "request" }>): Promise<void> {
    const { id, method, path, headers, body = null } = message;
    const controller = new AbortController();
    const answering: Answering = { controller };
    this.#answering.set(id, answering);
    // The host is never looked at.
    const url = new URL(path, "http://page.invalid");
    const init = { method, headers: [...headers] as [string, string][], body };
    const request = new Request(url, { ...init, signal: controller.signal });
    let response: Response;
    try {
      response = await this.#engine!.fetch(request);
    } catch (error) {
      this.#answering.delete(id);
      return scope.postMessage({ kind: "broken", id, message: String(error) });
    }
    if (controller.signal.aborted) return await response.body?.cancel();
    if (response.body) answering.reader = response.body.getReader();
    scope.postMessage({
      kind: "response",
      id,
      status: response.status,
      headers: [...response.headers],
    });
  }

  async #pull(id: number): Promise<void> {
    const reader = this.#answering.get(id)?.reader;
    try {
      const next = await reader?.read();
      if (!this.#answering.has(id)) return;
      if (next?.value) {
        // Its buffer may be a part of a larger one.
        const bytes = next.value.slice();
        return scope.postMessage({ kind: "chunk", id, bytes }, [bytes.buffer]);
      }
      scope.postMessage({ kind: "end", id });
    } catch (error) {
      scope.postMessage({ kind: "broken", id, message: String(error) });
    }
    this.#answering.delete(id);
  }

  async #forget(url: string): Promise<void> {
    try {
      await forgetFiles(url, await openFileStore());
      scope.postMessage({ kind: "forgotten" });
    } catch (error) {
      scope.postMessage({ kind: "failed", ...failureOf(error) });
    }
  }

  #cancel(id: number): void {
    const answering = this.#answering.get(id);
    this.#answering.delete(id);
    answering?.controller.abort();
    answering?.reader?.cancel().catch(() => {}); // nobody reads on
  }
}

/** Web locks hold across all pages of the origin; where there are none, storage is not kept either. */
async function exclusively<T>(name: string, work: () => Promise<T>): Promise<T> {
  const locks = navigator.locks as LockManager | undefined;
  if (locks === undefined) return await work();
  return await locks.request(name, work) as T;
}

function progressTeller(): (progress: OpenProgress) => void {
  let toldMs = -Infinity;
  return (progress) => {
    const nowMs = systemClock.nowMs();
    if (progress.doneBytes < progress.totalBytes && nowMs - toldMs < PROGRESS_MS) return;
    toldMs = nowMs;
    scope.postMessage({ kind: "progress", progress });
  };
}

/** The class of an error does not survive a message, so its code travels. */
function failureOf(error: unknown): { code: OperatingError["code"]; message: string } {
  if (error instanceof OperatingError) return { code: error.code, message: error.message };
  if (error instanceof RangeError && /memory|allocat|length/i.test(error.message)) {
    const message = `Cannot load the model: the browser gives no more memory (${error.message})`;
    return { code: "unavailable", message };
  }
  return { code: "internal", message: error instanceof Error ? error.message : String(error) };
}

// A page's rules may forbid making code from text, and asking is reported as a violation.
config({ jitless: true });
const worker = new EngineWorker();
scope.onmessage = ({ data }) => void worker.receive(data);

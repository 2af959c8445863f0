/**
 * A generator that says what the test tells it, with the engine's manners: events in order, end
 * tokens, maximum length, `finishChoice`, cancellation by signal. No model behind it.
 */
import { OperatingError } from "@/errors.ts";
import type {
  EngineEvent,
  Generation,
  GenerationRequest,
  Generator,
  TokenLogprob,
} from "@/engine/request.ts";

export interface Script {
  /** Token ids of one choice; the end token is appended unless the list says otherwise. */
  tokens(request: GenerationRequest, choice: number): readonly number[];
  readonly endTokenIds: readonly number[];
  /** Silence before the first token. */
  prefillMs?: number;
  /** Prefill events reported during it. */
  prefillSteps?: number;
  /** Time between tokens. */
  tokenMs?: number;
  /** Thrown by `submit`. */
  refusal?: OperatingError;
  /** Thrown by the iteration after this many tokens. */
  failure?: { readonly afterTokens: number; readonly error: unknown };
  cachedTokens?: number;
}

export class ScriptedGenerator implements Generator {
  readonly submissions: GenerationRequest[] = [];
  readonly finishedChoices: number[] = [];
  /** When requests were cancelled, by `performance.now()`. */
  readonly cancelledAtMs: number[] = [];
  running = 0;

  constructor(public script: Script) {}

  submit(request: GenerationRequest, { signal }: { signal?: AbortSignal }): Generation {
    if (this.script.refusal !== undefined) throw this.script.refusal;
    this.submissions.push(request);
    signal?.addEventListener("abort", () => {
      if (this.running > 0) this.cancelledAtMs.push(performance.now());
    }, { once: true });
    const finished = new Set<number>();
    const events = this.#run(request, { signal, finished });
    return {
      [Symbol.asyncIterator]: () => events,
      finishChoice: (choice) => {
        finished.add(choice);
        this.finishedChoices.push(choice);
      },
    };
  }

  async *#run(
    request: GenerationRequest,
    { signal, finished }: { signal: AbortSignal | undefined; finished: Set<number> },
  ): AsyncGenerator<EngineEvent> {
    this.running += 1;
    try {
      yield* this.#prefill(request, signal);
      const open = new Set(Array.from({ length: request.choices }, (_, choice) => choice));
      for (let position = 0; open.size > 0; position++) {
        await pause(this.script.tokenMs ?? 0, signal);
        for (const choice of [...open]) {
          if (finished.has(choice)) {
            yield { type: "finish", choice, reason: "stop" };
            open.delete(choice);
            continue;
          }
          yield* this.#token(request, { choice, position, open });
        }
      }
    } finally {
      this.running -= 1;
    }
  }

  async *#prefill(
    request: GenerationRequest,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<EngineEvent> {
    const { prefillMs = 0, prefillSteps = 1, cachedTokens: cached = 0 } = this.script;
    const total = request.promptIds.length;
    for (let step = 1; step <= prefillSteps; step++) {
      await pause(prefillMs / prefillSteps, signal);
      yield { type: "prefill", computed: Math.round(total * step / prefillSteps), total, cached };
    }
    if (!request.promptLogprobs) return;
    const count = request.params.topLogprobs ?? 0;
    yield {
      type: "prompt_logprobs",
      entries: request.promptIds.map((id, index) =>
        index === 0 ? null : { chosen: logprobOf(id), top: candidates(id, count) }
      ),
    };
  }

  *#token(
    request: GenerationRequest,
    { choice, position, open }: { choice: number; position: number; open: Set<number> },
  ): Iterable<EngineEvent> {
    const { failure, endTokenIds, tokens } = this.script;
    if (failure !== undefined && position >= failure.afterTokens) throw failure.error;
    const { maxTokens, topLogprobs, ignoreEos, stopTokenIds } = request.params;
    const id = tokens(request, choice)[position] ?? endTokenIds[0]!;
    yield {
      type: "token",
      choice,
      id,
      logprob: topLogprobs === undefined ? undefined : logprobOf(id),
      top: candidates(id, topLogprobs ?? 0),
    };
    const isEnd = stopTokenIds.includes(id) || (!ignoreEos && endTokenIds.includes(id));
    if (!isEnd && position + 1 < maxTokens) return;
    open.delete(choice);
    yield { type: "finish", choice, reason: isEnd ? "stop" : "length" };
  }
}

/** A number that depends on the id alone. */
function logprobOf(id: number): TokenLogprob {
  return { id, logprob: 0 - (id % 8) / 8 };
}

function candidates(id: number, count: number): TokenLogprob[] {
  return Array.from({ length: count }, (_, index) => ({
    id: id + index,
    logprob: 0 - (id % 8) / 8 - index,
  }));
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const refuse = () => {
      clearTimeout(timer);
      reject(new OperatingError("cancelled", "Request was cancelled"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", refuse);
      resolve();
    }, ms);
    if (signal?.aborted) refuse();
    signal?.addEventListener("abort", refuse, { once: true });
  });
}

/**
 * Goes on with another engine when one is lost, as when a GPU goes away. Running requests are asked
 * again, with what they have answered so far: a client sees a pause and no token twice.
 */
import { assert } from "@/assert.ts";
import type { OperatingError } from "@/errors.ts";
import type { Engine } from "./engine.ts";
import type { EngineEvent, Generation, GenerationRequest, Generator } from "./request.ts";

/** What of an engine is used here. */
export type FailingEngine = Pick<Engine, "submit" | "stats">;

export interface FailoverOptions {
  readonly engine: FailingEngine;
  /** Opens what takes over, at most once; its rejection ends all requests. */
  readonly openNext: () => Promise<FailingEngine>;
}

export class Failover implements Generator {
  readonly #openNext: () => Promise<FailingEngine>;
  #engine: FailingEngine;
  #next: Promise<FailingEngine> | undefined;

  constructor(options: FailoverOptions) {
    this.#engine = options.engine;
    this.#openNext = options.openNext;
  }

  submit(request: GenerationRequest, options: { signal?: AbortSignal } = {}): Generation {
    const isSound = this.#engine.stats().healthy;
    const first = isSound ? this.#engine.submit(request, options) : undefined;
    return new Replay({ request, first, submit: (again) => this.#submitNext(again, options) });
  }

  /** On the engine that took over; undefined when there is none but the one that works. */
  async #submitNext(
    request: GenerationRequest,
    options: { signal?: AbortSignal },
  ): Promise<Generation | undefined> {
    if (this.#next === undefined) {
      if (this.#engine.stats().healthy) return undefined;
      this.#next = this.#openNext();
      this.#next.then((engine) => this.#engine = engine, () => {});
    }
    return (await this.#next).submit(request, options);
  }
}

/** One request across two engines. */
class Replay implements Generation {
  readonly #request: GenerationRequest;
  readonly #submit: (request: GenerationRequest) => Promise<Generation | undefined>;
  readonly #answered: number[][];
  /** Choices that have ended, or that the caller has seen enough of. */
  readonly #finished = new Set<number>();
  readonly #cut = new Set<number>();
  #toldPromptLogprobs = false;
  #current: Generation | undefined;

  constructor(args: {
    request: GenerationRequest;
    first: Generation | undefined;
    submit: (request: GenerationRequest) => Promise<Generation | undefined>;
  }) {
    this.#request = args.request;
    this.#current = args.first;
    this.#submit = args.submit;
    this.#answered = Array.from({ length: args.request.choices }, () => []);
  }

  finishChoice(choice: number): void {
    this.#cut.add(choice);
    this.#current?.finishChoice(choice);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<EngineEvent, undefined> {
    let replayed = this.#current === undefined;
    this.#current ??= await this.#again();
    while (true) {
      assert(this.#current !== undefined, "an engine was lost before the first request");
      try {
        for await (const event of this.#current) if (this.#isNews(event)) yield event;
        return;
      } catch (error) {
        if (replayed || (error as OperatingError).code !== "unavailable") throw error;
        replayed = true;
        const again = await this.#again();
        if (again === undefined) throw error;
        this.#current = again;
      }
    }
  }

  async #again(): Promise<Generation | undefined> {
    const generation = await this.#submit({ ...this.#request, answered: this.#answered });
    for (const choice of new Set([...this.#finished, ...this.#cut])) {
      generation?.finishChoice(choice);
    }
    return generation;
  }

  /** Keeps what was told; false for what the caller knows. */
  #isNews(event: EngineEvent): boolean {
    if (event.type === "token") this.#answered[event.choice]!.push(event.id);
    if (event.type === "prompt_logprobs") {
      if (this.#toldPromptLogprobs) return false;
      this.#toldPromptLogprobs = true;
    }
    if (event.type === "finish") {
      if (this.#finished.has(event.choice)) return false;
      this.#finished.add(event.choice);
    }
    return true;
  }
}

/**
 * Server-sent events: a response whose first bytes go out at once, with comments while nothing
 * happens, and whose source is told when the client leaves. What the events say is the caller's.
 */

/** Events as texts of `data:` lines; a source that throws ends with the error as an event. */
export interface EventStreamOptions {
  readonly events: AsyncIterable<string>;
  /** Begins with a comment, for sources whose first event may take its time. */
  readonly opensWithComment: boolean;
  /** Silence after which a comment is sent. */
  readonly pingMs: number;
  /** The text of the last event, for what `events` threw. */
  readonly describeError: (error: unknown) => string;
  /** The client left before the end. */
  readonly onCancel: () => void;
  /** The stream is over; `isComplete` is false when the client left. */
  readonly onEnd: (isComplete: boolean) => void;
}

const OPENING = ": open\n\n";
const PING = ": ping\n\n";

/** A 200 response with `text/event-stream`. */
export function eventStreamResponse(options: EventStreamOptions): Response {
  return new Response(new EventStreamSource(options).stream(), {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache, no-transform",
      // Proxies that buffer would defeat the stream.
      "x-accel-buffering": "no",
    },
  });
}

class EventStreamSource {
  readonly #options: EventStreamOptions;
  readonly #iterator: AsyncIterator<string>;
  readonly #encoder = new TextEncoder();
  #pingTimer: ReturnType<typeof setTimeout> | undefined;
  #isOver = false;

  constructor(options: EventStreamOptions) {
    this.#options = options;
    this.#iterator = options.events[Symbol.asyncIterator]();
  }

  stream(): ReadableStream<Uint8Array> {
    return new ReadableStream({
      start: (controller) => {
        if (this.#options.opensWithComment) controller.enqueue(this.#encoder.encode(OPENING));
        this.#schedulePing(controller);
      },
      // Called again only after the promise settles and the client took the chunk: back-pressure.
      pull: (controller) => this.#pull(controller),
      cancel: () => {
        this.#end({ isComplete: false });
        this.#options.onCancel();
      },
    });
  }

  async #pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    try {
      const { value, done } = await this.#iterator.next();
      if (this.#isOver) return;
      if (done) {
        this.#end({ isComplete: true });
        controller.close();
      } else {
        this.#write(controller, `data: ${value}\n\n`);
      }
    } catch (error) {
      if (this.#isOver) return;
      this.#write(controller, `data: ${this.#options.describeError(error)}\n\n`);
      this.#end({ isComplete: true });
      controller.close();
    }
  }

  #write(controller: ReadableStreamDefaultController<Uint8Array>, text: string): void {
    controller.enqueue(this.#encoder.encode(text));
    this.#schedulePing(controller);
  }

  #schedulePing(controller: ReadableStreamDefaultController<Uint8Array>): void {
    clearTimeout(this.#pingTimer);
    this.#pingTimer = setTimeout(() => {
      // A client that does not read gets no pile of pings.
      if ((controller.desiredSize ?? 0) > 0) controller.enqueue(this.#encoder.encode(PING));
      this.#schedulePing(controller);
    }, this.#options.pingMs);
  }

  #end({ isComplete }: { isComplete: boolean }): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#pingTimer);
    this.#options.onEnd(isComplete);
  }
}

/**
 * One request and its answer: id, body, cancellation, log lines and metrics. Lives from the first byte of
 * the request to the last byte of the answer, which for streams is after the handler returned.
 */
import type { Context } from "hono";
import { OperatingError } from "@/errors.ts";
import type { Logger } from "@/telemetry/log.ts";
import { readJson } from "./body.ts";
import type { BodyShare } from "./body_budget.ts";
import { errorResponse } from "./errors.ts";
import type { Services } from "./services.ts";

export class Exchange {
  readonly id: string;
  readonly log: Logger;
  /** Fires when the client leaves, whether the answer has begun or not. */
  readonly signal: AbortSignal;
  /** Pattern of the matched route, for metrics; unmatched paths share one label. */
  route = "unmatched";
  readonly #services: Services;
  readonly #left = new AbortController();
  readonly #request: Request;
  readonly #share: BodyShare;
  readonly #startMs: number;
  #isStreaming = false;
  #isEnded = false;

  constructor(request: Request, services: Services) {
    this.#services = services;
    this.#request = request;
    this.#share = services.bodyBudget.share();
    this.#startMs = services.clock.nowMs();
    const given = request.headers.get("x-request-id");
    this.id = given !== null && /^[\w.:-]{1,128}$/.test(given) ? given : `req_${services.newId()}`;
    this.log = services.log.with({ request: this.id });
    this.signal = AbortSignal.any([request.signal, this.#left.signal]);
  }

  /** The JSON value of the body, whose bytes count until the answer ends. Throws as `readJson`. */
  async readBody(): Promise<unknown> {
    return await readJson(this.#request, { share: this.#share });
  }

  /** The client left the stream: everything that works for it stops. */
  leave(): void {
    this.#left.abort(new OperatingError("cancelled", "Client left"));
  }

  /** The answer goes on after the handler: `end` is called by the stream. */
  keepOpen(): void {
    this.#isStreaming = true;
  }

  /** The handler answered. */
  answered(status: number): void {
    if (!this.#isStreaming) this.end(status);
  }

  /** The last byte was sent, or the client left. Counts once. */
  end(status: number): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#share.release();
    const { metrics, clock } = this.#services;
    const seconds = (clock.nowMs() - this.#startMs) / 1000;
    const route = this.route;
    metrics.count("flotilla_http_requests_total", 1, { route, status: String(status) });
    metrics.observe("flotilla_http_request_seconds", seconds, { route });
    this.log.debug("request ended", { route, status, seconds });
  }

  /** Answers with an error; what the client must not see goes to the log. */
  fail(error: unknown): Response {
    this.logError(error);
    return errorResponse(error, this.id);
  }

  logError(error: unknown): void {
    if (this.signal.aborted) return;
    const isKnown = error instanceof OperatingError && error.code !== "internal";
    if (!isKnown) this.log.error("request failed", { route: this.route, error });
    else if (error.detail !== undefined || error.cause !== undefined) {
      this.log.info("request refused", { route: this.route, error });
    }
  }
}

export interface AppEnv {
  Variables: { exchange: Exchange };
}

export type AppContext = Context<AppEnv>;

/**
 * Operating errors: everything the world can do to us. One closed list of codes; this file knows no
 * HTTP (`api/errors.ts` maps codes to status and body).
 */

/** Closed list of what can go wrong at run time. */
export type ErrorCode =
  | "invalid_request" // a field has a wrong type, range or combination
  | "context_length_exceeded" // prompt + answer do not fit the model's context
  | "payload_too_large" // body, text or media above a size limit
  | "invalid_media" // bytes are not a picture we can decode
  | "media_forbidden" // URL is not allowed
  | "media_unreachable" // URL is allowed but could not be fetched
  | "model_not_found"
  | "not_found"
  | "method_not_allowed"
  | "unsupported_media_type"
  | "conflict" // the state of things does not allow it now
  | "unauthorized"
  | "overloaded" // queue full: retry later
  | "unavailable" // starting, draining or lost a needed part
  | "checkpoint_invalid" // a model folder is wrong
  | "timeout"
  | "cancelled"
  | "internal";

/** An error whose message is safe to show to the client. `detail` goes to the log only. */
export class OperatingError extends Error {
  readonly code: ErrorCode;
  /** Path of the offending request field, e.g. `messages[0].content[1].image_url.url`. */
  readonly field: string | undefined;
  /** Seconds after which a retry makes sense (`overloaded`, `unavailable`). */
  readonly retryAfterSeconds: number | undefined;
  readonly detail: string | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: {
      field?: string | undefined;
      cause?: unknown;
      detail?: string | undefined;
      retryAfterSeconds?: number | undefined;
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "OperatingError";
    this.code = code;
    this.field = options.field;
    this.detail = options.detail;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/**
 * Errors on the wire: one table from ErrorCode to status and OpenAI error body. Unknown exceptions
 * become 500 with the request id; what they say goes to the log alone.
 */
import { type ErrorCode, OperatingError } from "@/errors.ts";

interface ErrorForm {
  readonly status: number;
  /** OpenAI's `error.type`. */
  readonly type: string;
  /** OpenAI's `error.code` where it differs from ours. */
  readonly code?: string;
}

const INVALID = "invalid_request_error";
const SERVER = "server_error";

const ERROR_FORMS: Readonly<Record<ErrorCode, ErrorForm>> = {
  invalid_request: { status: 400, type: INVALID },
  context_length_exceeded: { status: 400, type: INVALID },
  payload_too_large: { status: 413, type: INVALID },
  invalid_media: { status: 400, type: INVALID },
  media_forbidden: { status: 400, type: INVALID },
  media_unreachable: { status: 400, type: INVALID },
  model_not_found: { status: 404, type: INVALID },
  not_found: { status: 404, type: INVALID },
  method_not_allowed: { status: 405, type: INVALID },
  conflict: { status: 409, type: INVALID },
  unsupported_media_type: { status: 415, type: INVALID },
  unauthorized: { status: 401, type: "authentication_error", code: "invalid_api_key" },
  overloaded: { status: 429, type: "rate_limit_error" },
  unavailable: { status: 503, type: SERVER },
  checkpoint_invalid: { status: 500, type: SERVER },
  timeout: { status: 408, type: INVALID },
  cancelled: { status: 499, type: INVALID },
  internal: { status: 500, type: SERVER },
};

const RETRY_AFTER_SECONDS = 1;

export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    /** Path of the offending field. */
    readonly param: string | null;
    readonly code: string;
  };
}

/** An error as it is answered. */
export interface ErrorAnswer {
  readonly status: number;
  readonly body: ErrorBody;
  readonly headers: Readonly<Record<string, string>>;
}

/** Status, headers and body for anything thrown while a request was handled. */
export function describeError(error: unknown, requestId: string): ErrorAnswer {
  const known = error instanceof OperatingError
    ? error
    : isAbort(error)
    ? new OperatingError("cancelled", "Request was cancelled")
    : new OperatingError("internal", `Internal error: see the server's log for ${requestId}`);
  const { status, type, code = known.code } = ERROR_FORMS[known.code];
  const headers: Record<string, string> = {};
  if (status === 401) headers["www-authenticate"] = "Bearer";
  if (status === 429 || status === 503) {
    headers["retry-after"] = String(Math.ceil(known.retryAfterSeconds ?? RETRY_AFTER_SECONDS));
  }
  const { message, field = null } = known;
  return { status, body: { error: { message, type, param: field, code } }, headers };
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** The error answer as a response. */
export function errorResponse(error: unknown, requestId: string): Response {
  const { status, body, headers } = describeError(error, requestId);
  return Response.json(body, { status, headers });
}

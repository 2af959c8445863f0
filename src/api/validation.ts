/**
 * Runs a schema over a body and turns its first complaint into an OperatingError that names the
 * field by its path (`messages[0].content[1].image_url.url`), the value and the bound.
 */
import type { z } from "zod";
import { type ErrorCode, OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** The body as the schema types it. Throws OperatingError `invalid_request`. */
export function parseBody<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  const result = schema.safeParse(body, { reportInput: true });
  if (result.success) return result.data;
  const { issue, path } = deepest(result.error.issues[0]!, []);
  const field = formatPath(path);
  const problem = describeIssue(issue);
  const message = field === "" ? `Invalid body: ${problem}` : `Invalid ${field}: ${problem}`;
  throw new OperatingError(codeOf(issue), message, { field: field === "" ? undefined : field });
}

/** A path as `messages[0].content`. */
export function formatPath(path: Path): string {
  return path.map((key) => typeof key === "number" ? `[${key}]` : `.${String(key)}`).join("")
    .replace(/^\./, "");
}

interface Complaint {
  readonly issue: Issue;
  readonly path: Path;
}

/**
 * A value that fits no branch of a union: the branch that the value came closest to says what is
 * wrong. When it fits none even by its type, the union itself does.
 */
function deepest(issue: Issue, prefix: Path): Complaint {
  const path = [...prefix, ...issue.path];
  if (issue.code !== "invalid_union") return { issue, path };
  const complaints = issue.errors.filter((issues) => issues.length > 0)
    .map((issues) => deepest(issues[0]!, path))
    .sort((a, b) => compareCloseness(b, a));
  const best = complaints[0];
  const isClose = best !== undefined && (isOutOfRange(best) || best.path.length > path.length);
  return isClose ? best : { issue, path };
}

/** A right type with a wrong value is closest, then what is wrong only deep inside, then late. */
function compareCloseness(a: Complaint, b: Complaint): number {
  const lastIndex = ({ path }: Complaint) => Number(path.findLast(Number.isInteger) ?? 0);
  return Number(isOutOfRange(a)) - Number(isOutOfRange(b)) || a.path.length - b.path.length ||
    lastIndex(a) - lastIndex(b);
}

function isOutOfRange({ issue }: Complaint): boolean {
  return issue.code === "too_big" || issue.code === "too_small" || issue.code === "custom";
}

function codeOf(issue: Issue): ErrorCode {
  const isText = issue.code === "too_big" && issue.origin === "string";
  return isText && issue.maximum === limits.promptCharsMax
    ? "payload_too_large"
    : "invalid_request";
}

function describeIssue(issue: Issue): string {
  const { input } = issue;
  switch (issue.code) {
    case "invalid_type":
      if (input === undefined) return "it is required";
      return `expected ${describeExpected(issue)}, got ${describeValue(input)}`;
    case "too_small":
      return `must be ${issue.inclusive ? "at least" : "above"} ${bound(issue, issue.minimum)}, ` +
        `got ${describeSize(input)}`;
    case "too_big":
      return `must be ${issue.inclusive ? "at most" : "below"} ${bound(issue, issue.maximum)}, ` +
        `got ${describeSize(input)}`;
    case "invalid_value":
      return `expected ${issue.values.map((value) => JSON.stringify(value)).join(" or ")}, ` +
        `got ${describeValue(input)}`;
    case "invalid_union":
      return describeUnion(issue);
    case "custom":
      return issue.message;
    default:
      return `${describeValue(input)} does not fit: ${issue.message}`;
  }
}

function describeExpected(issue: Extract<Issue, { code: "invalid_type" }>): string {
  const expected = issue.expected as string;
  return expected === "int" ? "an integer" : expected === "array" ? "a list" : `a ${expected}`;
}

function describeUnion(issue: Extract<Issue, { code: "invalid_union" }>): string {
  if (issue.errors.length === 0) {
    const options = (issue as { options?: readonly unknown[] }).options ?? [];
    const value = (issue.input as Record<string, unknown> | undefined)?.[String(issue.path.at(-1))];
    if (value === undefined) return "it is required";
    const names = options.map((option) => JSON.stringify(option)).join(", ");
    return `expected ${names === "" ? "a known value" : names}, got ${describeValue(value)}`;
  }
  if (issue.input === undefined) return "it is required";
  const expected = issue.errors.flatMap((issues) => issues.slice(0, 1)).map((first) =>
    first.code === "invalid_type"
      ? describeExpected(first)
      : first.code === "invalid_value"
      ? first.values.map((value) => JSON.stringify(value)).join(" or ")
      : "another form"
  );
  return `expected ${[...new Set(expected)].join(" or ")}, got ${describeValue(issue.input)}`;
}

function bound(issue: { origin: string }, value: number | bigint): string {
  if (issue.origin === "string") return `${value} characters`;
  if (issue.origin === "array") return `${value} items`;
  return String(value);
}

function describeSize(input: unknown): string {
  return typeof input === "string" || Array.isArray(input)
    ? String(input.length)
    : describeValue(input);
}

/** A short rendering; long texts and structures by their kind, so that no picture is echoed. */
function describeValue(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (value !== null && typeof value === "object") return "an object";
  const rendered = typeof value === "string" ? JSON.stringify(value) : String(value);
  return rendered.length <= 40 ? rendered : `${rendered.slice(0, 40)}…`;
}

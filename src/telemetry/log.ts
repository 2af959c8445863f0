/**
 * The log: one line per event to stderr, as JSON or for people. A logger is passed around; there
 * is no global one. Prompts, answers and keys are never logged.
 */
import { type Clock, systemClock } from "@/clock.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";
export type LogFormat = "json" | "pretty";
export type LogFields = Readonly<Record<string, unknown>>;

const RANK: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

interface Sink {
  readonly level: LogLevel;
  readonly format: LogFormat;
  readonly clock: Clock;
  readonly write: (line: string) => void;
}

export class Logger {
  readonly #sink: Sink;
  readonly #fields: LogFields;

  constructor(options: Partial<Sink> = {}, fields: LogFields = {}) {
    this.#sink = {
      level: options.level ?? "info",
      format: options.format ?? "json",
      clock: options.clock ?? systemClock,
      write: options.write ?? writeToStderr,
    };
    this.#fields = fields;
  }

  /** A logger that adds `fields` to every line. */
  with(fields: LogFields): Logger {
    return new Logger(this.#sink, { ...this.#fields, ...fields });
  }

  /** Whether lines of this level are written: guards fields that are costly to make. */
  writes(level: LogLevel): boolean {
    return RANK[level] >= RANK[this.#sink.level];
  }

  debug(message: string, fields: LogFields = {}): void {
    this.#log("debug", message, fields);
  }

  info(message: string, fields: LogFields = {}): void {
    this.#log("info", message, fields);
  }

  warn(message: string, fields: LogFields = {}): void {
    this.#log("warn", message, fields);
  }

  error(message: string, fields: LogFields = {}): void {
    this.#log("error", message, fields);
  }

  #log(level: LogLevel, message: string, fields: LogFields): void {
    if (!this.writes(level)) return;
    const time = new Date(this.#sink.clock.epochMs()).toISOString();
    const all = { ...this.#fields, ...fields };
    this.#sink.write(
      this.#sink.format === "json"
        ? toJson({ time, level, message, ...all })
        : pretty({ time, level, message, fields: all }),
    );
  }
}

/** A logger that writes nothing: for tests and embedded use. */
export const silentLogger: Logger = new Logger({ level: "error", write: () => {} });

/** Lines stay lines: JSON escapes line breaks; errors show name, message, detail and stack. */
function toJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => {
    if (typeof item === "bigint") return item.toString();
    if (!(item instanceof Error)) return item;
    const { name, message, stack, cause } = item;
    const detail = "detail" in item ? item.detail : undefined;
    const code = "code" in item ? item.code : undefined;
    return { name, code, message, detail, stack, cause };
  });
}

function pretty(
  line: { time: string; level: LogLevel; message: string; fields: LogFields },
): string {
  const pairs = Object.entries(line.fields)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}=${typeof value === "number" ? value : toJson(value)}`);
  return [line.time.slice(11, 23), line.level.padEnd(5), line.message, ...pairs].join(" ");
}

function writeToStderr(line: string): void {
  // console.error is the one way to stderr that every JavaScript host has.
  // deno-lint-ignore no-console
  console.error(line);
}

/**
 * Trace spans through OpenTelemetry as Deno has it built in (`OTEL_DENO=true`), typed as far as we
 * use it. Without that there is no tracer, and nothing is made or measured for one.
 */

export type SpanAttributes = Readonly<Record<string, string | number | boolean>>;

/** A span that has ended: times in milliseconds since the epoch. */
export interface EndedSpan {
  readonly name: string;
  readonly startEpochMs: number;
  readonly endEpochMs: number;
  readonly attributes: SpanAttributes;
  /** Why what it stands for failed. */
  readonly error?: string | undefined;
  /** Spans inside it. */
  readonly children?: readonly EndedSpan[];
}

export interface Tracer {
  /** Hands a span and its children to the exporter. */
  record(span: EndedSpan): void;
}

/** What we call of OpenTelemetry's interfaces. */
interface OpenSpan {
  setStatus(status: { code: number; message: string }): void;
  end(endTime: number): void;
}

export interface OpenTelemetry {
  readonly tracerProvider: {
    getTracer(name: string, version: string): {
      startSpan(
        name: string,
        options: { startTime: number; attributes: SpanAttributes },
        context: unknown,
      ): OpenSpan;
    };
  };
  readonly contextManager: { active(): { setValue(key: symbol, value: OpenSpan): unknown } };
}

/** Under this key OpenTelemetry keeps a context's span: that of the parent. */
const SPAN_KEY = Symbol.for("OpenTelemetry Context Key SPAN");
const STATUS_ERROR = 2;

/** A tracer over OpenTelemetry; by default over the runtime's own. */
export function openTracer(
  version: string,
  { tracerProvider, contextManager }: OpenTelemetry = Deno.telemetry,
): Tracer {
  const tracer = tracerProvider.getTracer("flotilla", version);
  const record = (ended: EndedSpan, context: unknown): void => {
    const { name, startEpochMs: startTime, attributes } = ended;
    const span = tracer.startSpan(name, { startTime, attributes }, context);
    if (ended.children && ended.children.length > 0) {
      const inside = contextManager.active().setValue(SPAN_KEY, span);
      for (const child of ended.children) record(child, inside);
    }
    if (ended.error !== undefined) span.setStatus({ code: STATUS_ERROR, message: ended.error });
    span.end(ended.endEpochMs);
  };
  return { record: (span) => record(span, contextManager.active()) };
}

/** Whether the runtime exports what a tracer records. */
export function isTracing(environment: { get(name: string): string | undefined }): boolean {
  return ["true", "1"].includes(environment.get("OTEL_DENO")?.toLowerCase() ?? "");
}

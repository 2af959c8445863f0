import assert from "node:assert/strict";
import { isTracing, openTracer, type SpanAttributes } from "./trace.ts";

/** Notes what is started and ended, with the parent's name. */
function noted() {
  const notes: unknown[] = [];
  const telemetry = {
    tracerProvider: {
      getTracer: () => ({
        startSpan(
          name: string,
          options: { startTime: number; attributes: SpanAttributes },
          context: unknown,
        ) {
          return {
            name,
            setStatus: (status: { code: number; message: string }) => void notes.push(status),
            end: (endTime: number) =>
              void notes.push([name, options.startTime, endTime, options.attributes, context]),
          };
        },
      }),
    },
    contextManager: {
      active: () => ({
        setValue: (_key: symbol, span: unknown) => (span as { name: string }).name,
      }),
    },
  };
  return { notes, tracer: openTracer("1", telemetry) };
}

Deno.test("openTracer() records a span with its children inside and its error", () => {
  const { notes, tracer } = noted();
  const children = [{ name: "call", startEpochMs: 2, endEpochMs: 3, attributes: { node: "a" } }];
  tracer.record({
    ...{ name: "layer", startEpochMs: 1, endEpochMs: 4, attributes: { layer: 7 } },
    children,
    error: "nobody answers",
  });
  assert.deepEqual(notes[0], ["call", 2, 3, { node: "a" }, "layer"]);
  assert.deepEqual(notes[1], { code: 2, message: "nobody answers" });
  assert.deepEqual((notes[2] as unknown[]).slice(0, 4), ["layer", 1, 4, { layer: 7 }]);
});

Deno.test("isTracing() follows OTEL_DENO", () => {
  const of = (value?: string) => isTracing({ get: () => value });
  assert.deepEqual([of("true"), of("1"), of("false"), of(undefined)], [true, true, false, false]);
});

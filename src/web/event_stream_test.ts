/** Framing of server-sent events, wherever the network cuts the bytes. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type ServerEvent, serverEvents } from "./event_stream.ts";

async function collect(chunks: Uint8Array<ArrayBuffer>[]): Promise<ServerEvent[]> {
  return await Array.fromAsync(serverEvents(ReadableStream.from(chunks)));
}

const encode = (text: string) => new TextEncoder().encode(text);

Deno.test("serverEvents() joins data lines, reads names and drops comments", async () => {
  const events = await collect([
    encode(": ping\n\nevent: error\ndata: a\ndata:b\n\nid: 1\n\ndata\n\n"),
  ]);
  assert.deepEqual(events, [{ event: "error", data: "a\nb" }, { event: "message", data: "" }]);
});

Deno.test("serverEvents() drops an event that the stream cut off", async () => {
  assert.deepEqual(await collect([encode("data: whole\n\ndata: half\n")]), [
    { event: "message", data: "whole" },
  ]);
});

Deno.test("serverEvents() gives the same events when bytes are cut anywhere", async () => {
  const line = fc.string({ unit: "grapheme" }).map((text) => text.replace(/[\r\n]/g, " ").trim());
  await fc.assert(fc.asyncProperty(
    fc.array(line, { minLength: 1, maxLength: 4 }),
    fc.constantFrom("\n", "\r\n", "\r"),
    fc.array(fc.nat(200), { maxLength: 8 }),
    async (texts, end, cuts) => {
      const bytes = encode(texts.map((text) => `data: ${text}${end}${end}`).join("") + `:${end}`);
      const edges = [0, ...cuts.filter((cut) => cut < bytes.length).sort((a, b) => a - b)];
      const chunks = edges.map((edge, i) => bytes.slice(edge, edges[i + 1]));
      const events = await collect(chunks);
      assert.deepEqual(events.map((event) => event.data), texts);
    },
  ));
});

Deno.test("serverEvents() throws when one event grows past its bound", async () => {
  const chunk = encode("x".repeat(1 << 20));
  await assert.rejects(collect(Array.from({ length: 9 }, () => chunk)), RangeError);
});

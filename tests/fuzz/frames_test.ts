import assert from "node:assert/strict";
import { fuzzConnections, fuzzHandshakes } from "./connection_fuzzer.ts";
import { openCorpus } from "./frame_corpus.ts";
import { fuzzDecoders } from "./frame_fuzzer.ts";

Deno.test("damaged frames decode within their bounds or fail with a ProtocolError", () => {
  const count = 20_000;
  const { decoded, refused } = fuzzDecoders({ seed: 1, count, corpus: openCorpus() });
  // Both happen often, or the fuzzer would not reach what it is for.
  assert.ok(decoded > count / 10 && refused > count / 10, `${decoded} decoded, ${refused} refused`);
});

Deno.test("damaged frames end a connection in a stated way, or do not end it", async () => {
  const { connections, received, ended } = await fuzzConnections({ seed: 2, count: 5000 });
  assert.ok(connections > 100 && received > 500, `${connections} connections, ${received} frames`);
  assert.ok(ended["protocol"]! > 100 && ended["refused"]! > 0, JSON.stringify(ended));
});

Deno.test("damaged handshakes never get past a secret", async () => {
  assert.ok(await fuzzHandshakes({ seed: 3, count: 2000 }) > 100);
});

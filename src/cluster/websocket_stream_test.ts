import assert from "node:assert/strict";
import { dataOf, messagesOf } from "./websocket_stream.ts";

Deno.test("messagesOf() avoids sizes that wait for an ACK, and dataOf() gives all bytes back", () => {
  for (
    const length of [0, 1, 1024, 1025, 16_384, 16_385, 65_532, 65_533, 65_536, 65_537, 200_000]
  ) {
    const bytes = Uint8Array.from({ length }, (_, i) => i * 31 + (i >> 8));
    const messages = [...messagesOf(bytes)];
    const delayed = messages.filter((message) => message.length > 1024 && message.length < 65_536);
    assert.deepEqual(delayed, [], `${length}`);
    const joined = messages.flatMap((message) => [...dataOf(message)!]);
    assert.deepEqual(joined, [...bytes], `${length}`);
  }
});

Deno.test("dataOf() refuses a padded message that claims more than it holds", () => {
  assert.equal(dataOf(new Uint8Array(65_536).fill(255)), undefined);
});

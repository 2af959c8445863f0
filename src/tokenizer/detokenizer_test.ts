import fc from "fast-check";
import { deepEqual, equal, ok } from "node:assert/strict";
import { Detokenizer } from "./detokenizer.ts";
import { Tokenizer } from "./tokenizer.ts";

const tokenizer = Tokenizer.byteLevel(400);

/** Any id, with bytes of multi-byte characters and special tokens frequent. */
const ids = fc.array(fc.oneof(
  fc.integer({ min: 0, max: 420 }),
  fc.integer({ min: 0x80, max: 0xff }),
  fc.constantFrom(0xe4, 0xb8, 0xad, 0xf0, 0x9f, 0x98, 0x80, 0xef, 0xbb, 0xbf),
));

Deno.test("Detokenizer gives in pieces what decode() gives at once, for any bytes", () => {
  fc.assert(
    fc.property(ids, fc.boolean(), (ids, skipSpecialTokens) => {
      const detokenizer = new Detokenizer(tokenizer, { skipSpecialTokens });
      const pieces = ids.map((id) => detokenizer.push(id));
      for (const piece of pieces) ok(piece.isWellFormed());
      const streamed = pieces.join("") + detokenizer.flush();
      equal(streamed, tokenizer.decode(ids, { skipSpecialTokens }));
    }),
    { numRuns: 1000 },
  );
});

Deno.test("Detokenizer holds back a character until its last byte", () => {
  const detokenizer = new Detokenizer(tokenizer);
  deepEqual([0xf0, 0x9f, 0x98, 0x80, 0x61].map((id) => detokenizer.push(id)), [
    "",
    "",
    "",
    "😀",
    "a",
  ]);
  equal(detokenizer.flush(), "");
});

Deno.test("Detokenizer flushes an unfinished character as U+FFFD and starts anew", () => {
  const detokenizer = new Detokenizer(tokenizer);
  equal(detokenizer.push(0xe4) + detokenizer.push(0xb8), "");
  equal(detokenizer.flush(), "\ufffd");
  equal(detokenizer.push(0xad), "\ufffd");
});

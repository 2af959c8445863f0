import fc from "fast-check";
import { deepEqual, equal, ok } from "node:assert/strict";
import { characterClass, PreTokenizer, QWEN2_PATTERN } from "./pre_tokenizer.ts";

const preTokenizer = new PreTokenizer();

/** The pattern in JavaScript's spelling: the slow oracle of the scanner. */
const PATTERN = new RegExp(
  QWEN2_PATTERN
    .replaceAll("[^\\s", "[^\\p{White_Space}")
    .replaceAll("\\S", "\\P{White_Space}")
    .replaceAll("\\s", "\\p{White_Space}"),
  "gu",
);

const unit = fc.oneof(
  fc.constantFrom(..."aZé中 \t\n\r'sStTrReEvVmMlLdD1²Ⅷ!.\u017f\u00a0\u0085\ufeff\u2028\u200b"),
  fc.constantFrom("😀", "𝒳", "𐍈", "𝟘", "\u0301", "\u3000"),
  fc.string({ unit: "binary", minLength: 1, maxLength: 1 }),
);

Deno.test("pieces() equals the pattern for any text", () => {
  fc.assert(
    fc.property(fc.string({ unit, maxLength: 40 }), (text) => {
      deepEqual([...preTokenizer.pieces(text)], text.match(PATTERN) ?? []);
    }),
    { numRuns: 5000 },
  );
});

Deno.test("pieces() equals the pattern around every code point of the basic plane", () => {
  for (let code = 0; code < 0x10000; code++) {
    if (code >= 0xd800 && code < 0xe000) continue;
    const character = String.fromCodePoint(code);
    const text = `1${character}${character}a${character}1`;
    deepEqual([...preTokenizer.pieces(text)], text.match(PATTERN), code.toString(16));
  }
});

Deno.test("pieces() gives the pieces of Qwen2 in known cases", () => {
  const cases: [string, string[]][] = [
    ["don't SHE'LL a'ſb", ["don", "'t", " SHE", "'LL", " a", "'ſ", "b"]],
    ["a  b   1", ["a", " ", " b", "  ", " ", "1"]],
    ["x \n\n y", ["x", " \n\n", " y"]],
    ["a\u0085b\ufeff\ufeffc", ["a", "\u0085b", "\ufeff\ufeff", "c"]],
    ["3.14 !!\n", ["3", ".", "1", "4", " !!\n"]],
    ["end  ", ["end", "  "]],
  ];
  for (const [text, pieces] of cases) deepEqual([...preTokenizer.pieces(text)], pieces);
});

Deno.test("pieces() looks at each character a bounded number of times", () => {
  const length = 20_000;
  const texts = [
    " ".repeat(length) + "x",
    " ".repeat(length) + "1",
    "\n ".repeat(length / 2) + "x",
    " \t".repeat(length / 2) + "!",
    "a".repeat(length),
    "!".repeat(length) + "a",
    "'".repeat(length),
    " '".repeat(length / 2),
    "1".repeat(length),
  ];
  for (const text of texts) {
    let lookups = 0;
    const counting = new PreTokenizer((codePoint) => (lookups++, characterClass(codePoint)));
    equal([...counting.pieces(text)].join(""), text);
    ok(lookups <= 4 * text.length, `${lookups} lookups for ${JSON.stringify(text.slice(0, 4))}…`);
  }
});

import fc from "fast-check";
import { equal } from "node:assert/strict";
import { normalizeNfc } from "./normalization.ts";

/** Marks of many combining classes, starters among the marks, and marks that decompose. */
const MARKS =
  "\u0301\u0308\u0323\u0327\u0334\u0345\u0344\u0f73\u0f71\u0f72\u3099\u0903\u20dd\u05b0";

Deno.test("normalizeNfc() equals the built-in NFC on long runs of marks", () => {
  const mark = fc.oneof(
    fc.constantFrom(...MARKS),
    fc.integer({ min: 0x300, max: 0x36f }).map((code) => String.fromCharCode(code)),
  );
  const run = fc.string({ unit: mark, minLength: 60, maxLength: 200 });
  fc.assert(
    fc.property(fc.constantFrom("", "a", "é", "가", "ὦ"), run, run, (base, first, second) => {
      const text = `${base}${first}x${base}${second}`;
      equal(normalizeNfc(text), text.normalize("NFC"));
    }),
  );
});

Deno.test("normalizeNfc() orders every mark of Unicode like the built-in NFC", () => {
  const marks: string[] = [];
  for (let code = 0; code < 0x110000; code++) {
    if (code >= 0xd800 && code < 0xe000) continue;
    const character = String.fromCodePoint(code);
    if (/\p{M}/u.test(character)) marks.push(character);
  }
  const text = `a${marks.toReversed().join("")}b${marks.join("")}`;
  equal(normalizeNfc(text), text.normalize("NFC"));
});

Deno.test("normalizeNfc() returns from a text that insertion sort would take hours for", () => {
  const count = 1_000_000;
  const text = `a${"\u0301".repeat(count)}${"\u0323".repeat(count)}`;
  const normal = normalizeNfc(text);
  equal(normal.length, 2 * count);
  equal(normal.slice(0, 3), "\u1ea1\u0323\u0323");
  equal(normal.slice(-2), "\u0301\u0301");
});

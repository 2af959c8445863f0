import fc from "fast-check";
import { deepEqual, equal } from "node:assert/strict";
import { StopStrings } from "./stop_strings.ts";

/** The definition: grow the text unit by unit until it ends in a stop string, the longest wins. */
function stopNaively(text: string, stops: string[]) {
  for (let end = 1; end <= text.length; end++) {
    const found = stops.filter((stop) => stop !== "" && text.slice(0, end).endsWith(stop))
      .sort((a, b) => b.length - a.length)[0];
    if (found !== undefined) return { text: text.slice(0, end - found.length), matched: found };
  }
  return { text, matched: undefined };
}

/** Text that could still be the beginning of a stop string. */
function openEndLength(text: string, stops: string[]): number {
  for (let length = text.length; length > 0; length--) {
    if (stops.some((stop) => stop.startsWith(text.slice(-length)))) return length;
  }
  return 0;
}

Deno.test("StopStrings equals the naive search for any chunks and holds back no more", () => {
  const word = fc.string({ unit: fc.constantFrom("a", "b", "c", "😀", "😁"), maxLength: 5 });
  fc.assert(
    fc.property(fc.array(word, { maxLength: 4 }), fc.array(word), (stops, chunks) => {
      const search = new StopStrings(stops);
      let emitted = "";
      let matched: string | undefined;
      let seen = "";
      for (const chunk of chunks) {
        const result = search.push(chunk);
        emitted += result.text;
        matched = result.matched;
        seen += chunk;
        if (matched === undefined) equal(emitted.length, seen.length - openEndLength(seen, stops));
      }
      emitted += search.flush();
      deepEqual({ text: emitted, matched }, stopNaively(chunks.join(""), stops));
    }),
    { numRuns: 2000 },
  );
});

Deno.test("StopStrings finds a stop string across chunks and stays silent after it", () => {
  const search = new StopStrings(["\nUser:", "###"]);
  deepEqual(search.push("hello\nUs"), { text: "hello", matched: undefined });
  deepEqual(search.push("er: more"), { text: "", matched: "\nUser:" });
  deepEqual(search.push("text"), { text: "", matched: "\nUser:" });
  equal(search.flush(), "");
});

Deno.test("StopStrings releases a false beginning at once and an open end at flush", () => {
  const search = new StopStrings(["###"]);
  deepEqual(search.push("a##"), { text: "a", matched: undefined });
  deepEqual(search.push("b#"), { text: "##b", matched: undefined });
  equal(search.flush(), "#");
});

Deno.test("StopStrings without stop strings passes text on", () => {
  for (const search of [new StopStrings([]), new StopStrings([""])]) {
    deepEqual(search.push("any"), { text: "any", matched: undefined });
    equal(search.flush(), "");
  }
});

/** Reads the JUnit report that `deno test` writes; it knows no other dialect. */

export interface TestCase {
  readonly name: string;
  readonly state: "passed" | "failed" | "skipped";
}

const entities: Readonly<Record<string, string>> = {
  "&lt;": "<",
  "&gt;": ">",
  "&quot;": '"',
  "&apos;": "'",
  "&amp;": "&",
};

function unescape(text: string): string {
  return text.replaceAll(/&(?:lt|gt|quot|apos|amp);|&#(x?)([0-9a-fA-F]+);/g, (all, hex, code) => {
    return code ? String.fromCodePoint(parseInt(code, hex ? 16 : 10)) : entities[all]!;
  });
}

const casePattern = /<testcase name="([^"]*)"[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g;

/** Tests of a report. Steps stand for their test: only the skipped ones are listed themselves. */
export function parseReport(xml: string): TestCase[] {
  const all = [...xml.matchAll(casePattern)].map(([, name, body = ""]): TestCase => {
    return { name: unescape(name!), state: stateOf(body) };
  });
  const names = new Set(all.map(({ name }) => name));
  return all.filter(({ name, state }) => state === "skipped" || !isStep(name, names));
}

function stateOf(body: string): TestCase["state"] {
  if (/<(failure|error)\b/.test(body)) return "failed";
  return body.includes("<skipped") ? "skipped" : "passed";
}

/** A step is called "test > step". */
function isStep(name: string, names: ReadonlySet<string>): boolean {
  for (let at = name.indexOf(" > "); at >= 0; at = name.indexOf(" > ", at + 1)) {
    if (names.has(name.slice(0, at))) return true;
  }
  return false;
}

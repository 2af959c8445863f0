/** The house lint rules fire where they should, and the code obeys them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import plugin from "./lint_plugin.ts";
import { readText, repositoryRoot, typescriptFiles } from "./source_files.ts";

function findings(path: string, text: string): string[] {
  return Deno.lint.runPlugin(plugin, path, text).map(({ id, message }) => `${id}: ${message}`);
}

Deno.test("lint_plugin function-length fires above 70 lines", () => {
  const body = (lines: number) => `function f() {\n${"  f();\n".repeat(lines - 2)}}\n`;
  assert.deepEqual(findings("/x/src/a.ts", body(70)), []);
  assert.match(findings("/x/src/a.ts", body(71))[0]!, /^tidy\/function-length: .*71 lines/);
});

Deno.test("lint_plugin no-ambient fires outside the owners of time and randomness", () => {
  const uses = [
    "Date.now();",
    "const t = new Date();",
    "performance.now();",
    "Math.random();",
    'console.log("x");',
  ];
  for (const use of uses) {
    assert.equal(findings("/x/src/engine/a.ts", use).length, 1, use);
    assert.deepEqual(findings("/x/src/cli/a.ts", use), []);
    assert.deepEqual(findings("/x/src/engine/a_test.ts", use), []);
  }
  assert.deepEqual(findings("/x/src/engine/a.ts", "new Date(5); Math.max(1);"), []);
});

Deno.test("lint_plugin no-module-state fires on let and var at module level only", () => {
  assert.equal(findings("/x/src/a.ts", "let a = 1;\nexport let b = 2;\nvar c = 3;").length, 3);
  assert.deepEqual(findings("/x/src/a.ts", "const a = 1;\nfunction f() { let b = a; b++; }"), []);
});

Deno.test("lint_plugin synchronous fires on waiting in the scheduler's files only", () => {
  const text = "export async function f() { await g(); setTimeout(g); }";
  assert.equal(findings("/x/src/engine/scheduler.ts", text).length, 3);
  assert.deepEqual(findings("/x/src/engine/engine.ts", text), []);
});

Deno.test("all code obeys the house lint rules", () => {
  const found = typescriptFiles("src", "tests", "kernels-rs").flatMap((path) => {
    return findings(join(repositoryRoot, path), readText(path)).map((text) => `${path}: ${text}`);
  });
  assert.deepEqual(found, []);
});

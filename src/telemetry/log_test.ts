import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { Logger } from "./log.ts";

const clock = { nowMs: () => 0, epochMs: () => 0 };

Deno.test("Logger writes one JSON line with inherited fields and error details", () => {
  const lines: string[] = [];
  const log = new Logger({ clock, write: (line) => lines.push(line) }).with({ model: "nano" });
  const error = new OperatingError("internal", "Cannot step", { detail: "line\nbreak" });
  log.error("step failed", { error, rows: 3 });
  log.debug("not written");
  assert.equal(lines.length, 1);
  assert.ok(!lines[0]!.includes("\n"));
  const entry = JSON.parse(lines[0]!);
  assert.equal(entry.time, "1970-01-01T00:00:00.000Z");
  assert.equal(entry.model, "nano");
  assert.equal(entry.rows, 3);
  assert.equal(entry.error.code, "internal");
  assert.equal(entry.error.detail, "line\nbreak");
});

Deno.test("Logger writes pretty lines without undefined fields", () => {
  const lines: string[] = [];
  const log = new Logger({ clock, format: "pretty", level: "debug", write: (l) => lines.push(l) });
  log.debug("step", { rows: 2, text: "a b", none: undefined });
  assert.deepEqual(lines, ['00:00:00.000 debug step rows=2 text="a b"']);
});

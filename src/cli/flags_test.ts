import { equal, match, throws } from "node:assert/strict";
import {
  type CommandName,
  commands,
  flagMarkdown,
  helpText,
  parseFlags,
  UsageError,
} from "./flags.ts";

Deno.test("parseFlags() reads values, lists and switches", () => {
  const flags = parseFlags("serve", [
    "--port",
    "0",
    "--model",
    "a=one",
    "--model=two",
    "--no-exif",
  ]);
  equal(flags.number("port"), 0);
  equal(flags.list("model").join(), "a=one,two");
  equal(flags.on("no-exif"), true);
  equal(flags.on("synthetic"), false);
  equal(flags.string("host"), undefined);
});

Deno.test("parseFlags() names flag, value and expectation when a value is wrong", () => {
  const message = (args: string[]): string => {
    let text = "";
    throws(() => parseFlags("serve", args), (error) => {
      text = (error as Error).message;
      return error instanceof UsageError;
    });
    return text;
  };
  equal(message(["--port", "70000"]), `--port is "70000", expected an integer from 0 to 65535`);
  equal(message(["--backend", "cuda"]), `--backend is "cuda", expected wasm, webgpu, reference`);
  match(message(["--colour"]), /--colour/);
  match(message(["--port"]), /--port/);
  match(message(["--threads", "-1"]), /threads/);
});

Deno.test("helpText() covers every command", () => {
  for (const name of Object.keys(commands)) {
    match(helpText(), new RegExp(`  ${name}`));
    match(helpText(name as CommandName), new RegExp(`Usage: deno task ${name} .*\\[flags\\]`));
  }
  match(flagMarkdown("serve"), /`--quant none\\\|q8\\\|q4`/);
});

Deno.test("the README's flag table is the one of this version", async () => {
  const readme = await Deno.readTextFile(new URL("../../README.md", import.meta.url));
  const cells = (row: string) => row.split(/(?<!\\)\|/).map((cell) => cell.trim()).join("|");
  const rows = new Set(readme.split("\n").filter((line) => line.startsWith("|")).map(cells));
  for (const row of flagMarkdown("serve").split("\n").slice(2)) {
    equal(rows.has(cells(row)), true, `README.md lacks the row ${row}`);
  }
});

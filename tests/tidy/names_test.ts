/** Rules about files as a whole: names, length, first comment, leftovers. */
import assert from "node:assert/strict";
import { basename, extname } from "node:path/posix";
import { filesUnder, isTest, readLatin1, readText, typescriptFiles } from "./source_files.ts";

const FILE_LINES_MAX = 600;

const bannedNames = new Set(
  ["util", "utils", "helper", "helpers", "common", "misc", "shared", "types", "constants", "index"]
    .concat(["manager", "base", "mod"]),
);

const ours = typescriptFiles("src", "tests", "kernels-rs");

function stemOf(path: string): string {
  return basename(path, extname(path)).replace(/_(test|bench)$/, "");
}

Deno.test("source files and folders have snake_case names", () => {
  const bad = ours.filter((path) => {
    return !path.split("/").slice(1).every((part) =>
      /^_?[a-z0-9]+(_[a-z0-9]+)*(\.tsx?)?$/.test(part)
    );
  });
  assert.deepEqual(bad, [], "rename to lower-case words joined by _");
});

Deno.test("no source file has a name that says nothing", () => {
  const bad = ours.filter((path) => bannedNames.has(stemOf(path)));
  assert.deepEqual(bad, [], "name the file after the one thing it owns");
});

Deno.test(`no source file is longer than ${FILE_LINES_MAX} lines`, () => {
  const rust = filesUnder("kernels-rs").filter((path) => path.endsWith(".rs"));
  const bad = [...ours, ...rust]
    .filter((path) => !stemOf(path).endsWith("_table"))
    .map((path) => ({ path, lines: readText(path).split("\n").length - 1 }))
    .filter(({ lines }) => lines > FILE_LINES_MAX);
  assert.deepEqual(bad, [], "split by noun, or call a pure table *_table.ts");
});

Deno.test("every source file starts with a doc comment", () => {
  const bad = ours.filter((path) => !isTest(path) && !readText(path).startsWith("/**"));
  assert.deepEqual(bad, [], "say in /** … */ what the file owns and what it does not");
});

/** Words that mean unfinished work; spelt in halves so that this file does not contain them. */
const leftovers = new RegExp(
  `\\b(${["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"].join("|")})\\b`,
);

Deno.test("no unfinished-work markers are left", () => {
  const code = ["src", "tests", "kernels-rs", "deploy", "docs", ".ci"].flatMap(filesUnder);
  const text = code.filter((path) => {
    return /\.(tsx?|rs|toml|md|css|html|sh)$/.test(path) &&
      !/^tests\/fixtures\/|\/dist\//.test(path);
  });
  assert.deepEqual(
    text.filter((path) => leftovers.test(readText(path))),
    [],
    "finish it or drop it",
  );
});

/** Absolute paths of a development machine; spelt in halves for the same reason. */
const machinePath = new RegExp(
  `(?<![\\w.-])/(${["wo" + "rk", "ro" + "ot", "tm" + "p/flo"].join("|")})/`,
);

Deno.test("no file names a path of the machine it was made on", () => {
  const bad = filesUnder(".").filter((path) => machinePath.test(readLatin1(path)));
  assert.deepEqual(
    bad,
    [],
    "use paths relative to the repository; strip debug paths from binaries",
  );
});

Deno.test("lock files name the public registries only", () => {
  const npm = JSON.parse(readText("deno.lock")) as { npm?: Record<string, { tarball?: string }> };
  const tarballs = Object.values(npm.npm ?? {}).flatMap(({ tarball }) => tarball ?? []);
  assert.deepEqual(tarballs, [], "make deno.lock again with the registry setting unset");
  const cargo = filesUnder("kernels-rs").filter((path) => basename(path) === "Cargo.lock");
  const sources = cargo.flatMap((path) => readText(path).match(/^source = .*$/gm) ?? []);
  const crates = 'source = "registry+https://github.com/rust-lang/crates.io-index"';
  assert.deepEqual(sources.filter((source) => source !== crates), []);
});

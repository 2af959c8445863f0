/** The import layers: a folder imports itself and folders of lower rows, never the same row. */
import assert from "node:assert/strict";
import { findCycle, type Import, importsOf } from "./imports.ts";
import { isTest, readText, typescriptFiles } from "./source_files.ts";

const rows: readonly (readonly string[])[] = [
  [""], // leaf files directly in src
  ["telemetry"],
  ["tensor", "tokenizer", "media", "data"],
  ["kernels"],
  ["weights"],
  ["model", "sampling"],
  ["engine", "cluster"],
  ["chat"],
  ["api", "evaluation"],
  ["curation", "training", "web"],
  ["playground", "dashboard", "bench"],
  ["cli"],
];

/** Programs directly in src: they may import everything, and nothing imports them. */
const entryPoints = new Set(["src/main.ts", "src/edge.ts"]);

const rowOfFolder = new Map(rows.flatMap((row, index) => row.map((folder) => [folder, index])));

/** Folder under src: "kernels" of src/kernels/wasm/backend.ts, "" of src/clock.ts. */
function folderOf(path: string): string {
  const parts = path.split("/");
  return parts.length > 2 ? parts[1]! : "";
}

/** What is wrong with one import, naming the fix. */
export function layerProblem({ from, specifier, target }: Import): string | undefined {
  if (target === undefined || !target.startsWith("src/")) return undefined;
  if (entryPoints.has(target) && !isTest(from)) return `${from} imports the program ${target}`;
  const [folder, targetFolder] = [folderOf(from), folderOf(target)];
  const atSign = specifier.startsWith("@/");
  if (folder === targetFolder) {
    return atSign && folder !== ""
      ? `${from} imports "${specifier}" of its own folder: write a relative path`
      : "";
  }
  if (!atSign) return `${from} crosses folders with "${specifier}": write "@/…"`;
  if (entryPoints.has(from)) return undefined;
  const [row, targetRow] = [rowOfFolder.get(folder), rowOfFolder.get(targetFolder)];
  if (targetRow! < row!) return undefined;
  return `${from} (row ${row}, ${folder}) imports ${target} (row ${targetRow}, ${targetFolder}): ` +
    `move the shared part down, or pass it in`;
}

const files = typescriptFiles("src");
const imports = files.flatMap((path) => importsOf(path, readText(path)));

Deno.test("every folder of src has a layer", () => {
  const unknown = files.map(folderOf).filter((folder) => !rowOfFolder.has(folder));
  assert.deepEqual([...new Set(unknown)], [], "add the folder to the rows of layers_test.ts");
});

Deno.test("imports go down the layers", () => {
  assert.ok(imports.length > files.length, "the import reader finds imports");
  assert.deepEqual(imports.map(layerProblem).filter(Boolean), []);
});

Deno.test("imports lead to existing files", () => {
  const known = new Set(files);
  const lost = imports.filter(({ target }) =>
    target?.match(/^src\/.*\.tsx?$/) && !known.has(target)
  );
  assert.deepEqual(lost.map(({ from, specifier }) => `${from} imports "${specifier}"`), []);
});

Deno.test("files do not import each other in a circle", () => {
  const graph = new Map(files.map((path) => [path, [] as string[]]));
  for (const { from, target, typeOnly } of imports) {
    // Interfaces may name each other; such imports are gone when the code runs.
    if (target && !typeOnly) graph.get(from)!.push(target);
  }
  const cycle = findCycle(graph);
  assert.equal(
    cycle,
    undefined,
    `cycle: ${cycle?.join(" -> ")}; move what both need to a file below`,
  );
});

Deno.test("layerProblem() names the pair that goes up or sideways", () => {
  const problem = (path: string, text: string) => layerProblem(importsOf(path, text)[0]!);
  assert.match(
    problem("src/kernels/a.ts", 'import { x } from "@/model/b.ts";')!,
    /src\/kernels\/a\.ts .* src\/model\/b\.ts/,
  );
  assert.ok(problem("src/tensor/a.ts", 'import type {\n  x,\n} from "@/media/b.ts";'));
  assert.ok(problem("src/kernels/a.ts", 'export { x } from "../tensor/b.ts";'));
  assert.ok(problem("src/kernels/a.ts", 'await import("@/kernels/b.ts")'));
  assert.ok(problem("src/cli/a.ts", 'import "@/main.ts";'));
  assert.ok(!problem("src/kernels/wasm/a.ts", 'import { x } from "../backend.ts";'));
  assert.ok(!problem("src/model/a.ts", 'import { x } from "@/tensor/b.ts";'));
  assert.deepEqual(importsOf("src/a.ts", '// import "./b.ts";\n/* import "./c.ts"; */'), []);
});

Deno.test("findCycle() gives the files of a circle and nothing for a diamond", () => {
  const graph = new Map([["a", ["b", "c"]], ["b", ["d"]], ["c", ["d"]], ["d", []]]);
  assert.equal(findCycle(graph), undefined);
  assert.deepEqual(findCycle(graph.set("d", ["b"])), ["b", "d", "b"]);
});

/** Reads the imports of TypeScript files, for the layer rules. */
import { dirname, join } from "node:path/posix";

export interface Import {
  readonly from: string;
  /** As written. */
  readonly specifier: string;
  /** Path relative to the root when it is one of our files. */
  readonly target: string | undefined;
  /** `import type` or `export type`. */
  readonly typeOnly: boolean;
}

/** `import … from "x"`, `export … from "x"`, `import "x"`, `import("x")`, `new URL("x", import…)`. */
const importPatterns = [
  /(?:^|\n)\s*(?:import|export)\s+(?:[^"';]*?\sfrom\s+)?"([^"\n]+)"/g,
  /\bimport\(\s*"([^"\n]+)"/g,
  /\bnew URL\(\s*"([^"\n]+\.tsx?)"\s*,\s*import\.meta\.url/g,
];

/** Imports of one file; comments do not count. */
export function importsOf(path: string, text: string): Import[] {
  const code = text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/(^|\s)\/\/.*$/gm, "");
  return importPatterns.flatMap((pattern) => [...code.matchAll(pattern)]).map((match) => {
    const specifier = match[1]!;
    const typeOnly = /^\s*(import|export)\s+type\s/.test(match[0]);
    return { from: path, specifier, target: resolve(path, specifier), typeOnly };
  });
}

function resolve(path: string, specifier: string): string | undefined {
  if (specifier.startsWith("@/")) return `src/${specifier.slice(2)}`;
  return specifier.startsWith(".") ? join(dirname(path), specifier) : undefined;
}

/** A cycle of files, first file repeated at the end; undefined when there is none. */
export function findCycle(imports: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const done = new Set<string>();
  const open: string[] = [];
  const visit = (path: string): string[] | undefined => {
    if (done.has(path)) return undefined;
    const start = open.indexOf(path);
    if (start >= 0) return [...open.slice(start), path];
    open.push(path);
    for (const target of imports.get(path) ?? []) {
      const cycle = visit(target);
      if (cycle) return cycle;
    }
    open.pop();
    done.add(path);
    return undefined;
  };
  for (const path of imports.keys()) {
    const cycle = visit(path);
    if (cycle) return cycle;
  }
  return undefined;
}

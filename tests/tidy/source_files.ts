/** Finds the repository's files for the tidy tests. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Folder of the checkout. */
export const repositoryRoot = fileURLToPath(new URL("../..", import.meta.url));

/** What is downloaded, built or private, never written by hand; `.git` is a file in a worktree. */
const skippedNames = new Set([".git", "node_modules", "target", ".cache", "tmp", "__pycache__"]);

/** Paths of all files under a folder, relative to the root, with forward slashes, sorted. */
export function filesUnder(folder: string): string[] {
  const paths: string[] = [];
  for (const entry of Deno.readDirSync(join(repositoryRoot, folder))) {
    const path = folder === "." ? entry.name : `${folder}/${entry.name}`;
    if (skippedNames.has(entry.name)) continue;
    if (entry.isDirectory) paths.push(...filesUnder(path));
    if (entry.isFile && !entry.name.endsWith(".log")) paths.push(path);
  }
  return paths.sort();
}

/** TypeScript under `folders`, without generated bundles. */
export function typescriptFiles(...folders: string[]): string[] {
  return folders.flatMap(filesUnder).filter((path) =>
    /\.tsx?$/.test(path) && !path.endsWith(".d.ts") && !path.includes("/dist/") &&
    !path.startsWith("tests/fixtures/")
  );
}

export function readText(path: string): string {
  return Deno.readTextFileSync(join(repositoryRoot, path));
}

/** Bytes as text, one character each, so that binary files can be searched too. */
export function readLatin1(path: string): string {
  return new TextDecoder("latin1").decode(Deno.readFileSync(join(repositoryRoot, path)));
}

export function isTest(path: string): boolean {
  return /_(test|bench)\.tsx?$/.test(path) || path.startsWith("tests/");
}

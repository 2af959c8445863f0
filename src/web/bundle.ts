/**
 * Bundles for the browser with esbuild: committed files that match their sources. Which sources make
 * which files is said by the `build.ts` of each folder.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

/** Files by name, as the present sources give them; bytes are reproducible. */
export type Bundle = ReadonlyMap<string, Uint8Array>;

/** Finds packages where Deno keeps them: there is no node_modules folder. */
const denoPackages: esbuild.Plugin = {
  name: "deno-packages",
  setup(build) {
    build.onResolve({ filter: /^(hono|zod)(\/|$)/ }, ({ path }) => ({
      path: fileURLToPath(import.meta.resolve(path)),
    }));
  },
};

/** Bundles `entries` (source by output name without ending), one file each. */
export async function bundle(entries: Readonly<Record<string, URL>>): Promise<Bundle> {
  try {
    const result = await esbuild.build({
      entryPoints: Object.entries(entries).map(([out, source]) => ({
        out,
        in: fileURLToPath(source),
      })),
      outdir: fileURLToPath(new URL("dist", import.meta.url)),
      bundle: true,
      write: false,
      minify: true,
      format: "esm",
      target: ["es2022", "chrome110", "firefox115", "safari16.4"],
      jsx: "automatic",
      jsxImportSource: "hono/jsx/dom",
      // The compiler options of deno.json are Deno's own; the bundle must not depend on them.
      tsconfigRaw: {},
      charset: "utf8",
      legalComments: "none",
      alias: { "@": fileURLToPath(new URL("..", import.meta.url)) },
      plugins: [denoPackages],
    });
    return new Map(result.outputFiles.map(({ path, contents }) => {
      return [path.slice(path.lastIndexOf("/") + 1), contents];
    }));
  } finally {
    await esbuild.stop(); // else the child process keeps Deno alive
  }
}

/** Names of files in `folder` that differ from the bundle. */
export async function staleFiles(folder: URL, files: Bundle): Promise<string[]> {
  const stale: string[] = [];
  for (const [name, bytes] of files) {
    const committed = await readFile(new URL(name, folder)).catch((error: unknown) => {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
      throw error;
    });
    if (committed === undefined || !committed.equals(bytes)) stale.push(name);
  }
  return stale;
}

/** Writes the files of `task`; with `--check` throws when the committed ones differ instead. */
export async function buildOrCheck(folder: URL, files: Bundle, task: string): Promise<void> {
  if (Deno.args.includes("--check")) {
    const stale = await staleFiles(folder, files);
    if (stale.length === 0) return;
    throw new Error(`Stale ${stale.join(", ")} in ${fileURLToPath(folder)}: run ${task}`);
  }
  await mkdir(folder, { recursive: true });
  for (const [name, bytes] of files) await writeFile(new URL(name, folder), bytes);
}

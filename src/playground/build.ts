/**
 * Builds `dist/` from the page's sources with esbuild. `--check` compares instead of writing and
 * fails when the committed files are stale. Run as `deno task build:playground`.
 */
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const folder = new URL("./", import.meta.url);

/** Finds `hono/…` where Deno keeps npm packages: there is no node_modules folder. */
const denoPackages: esbuild.Plugin = {
  name: "deno-packages",
  setup(build) {
    build.onResolve({ filter: /^hono(\/|$)/ }, ({ path }) => ({
      path: fileURLToPath(import.meta.resolve(path)),
    }));
  },
};

/** The files of `dist/` by name, as the present sources give them. Bytes are reproducible. */
export async function bundle(): Promise<Map<string, Uint8Array>> {
  try {
    const result = await esbuild.build({
      entryPoints: [path("app.tsx"), path("style.css")],
      outdir: path("dist"),
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
      alias: { "@": path("..") },
      plugins: [denoPackages],
    });
    const files = result.outputFiles.map((file) =>
      [file.path.slice(file.path.lastIndexOf("/") + 1), file.contents] as const
    );
    const html = new Uint8Array(await readFile(path("index.html")));
    return new Map([["index.html", html], ...files]);
  } finally {
    await esbuild.stop(); // else the child process keeps Deno alive
  }
}

/** Names of committed files that differ from the sources. */
export async function staleFiles(): Promise<string[]> {
  const stale: string[] = [];
  for (const [name, bytes] of await bundle()) {
    const committed = await readFile(path(`dist/${name}`)).catch((error: unknown) => {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
      throw error;
    });
    if (committed === undefined || !committed.equals(bytes)) stale.push(name);
  }
  return stale;
}

function path(name: string): string {
  return fileURLToPath(new URL(name, folder));
}

if (import.meta.main) {
  if (Deno.args.includes("--check")) {
    const stale = await staleFiles();
    if (stale.length > 0) {
      throw new Error(`Stale ${stale.join(", ")} in dist: run deno task build:playground`);
    }
  } else {
    await Deno.mkdir(path("dist"), { recursive: true });
    for (const [name, bytes] of await bundle()) await writeFile(path(`dist/${name}`), bytes);
  }
}

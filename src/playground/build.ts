/**
 * Builds `dist/` from the page's sources. `--check` compares instead of writing and fails when the
 * committed files are stale. Run as `deno task build:playground`.
 */
import { readFile } from "node:fs/promises";
import { buildOrCheck, type Bundle, bundle } from "@/web/bundle.ts";

export const distFolder = new URL("./dist/", import.meta.url);

/** The files of `dist/` by name, as the present sources give them. */
export async function playgroundBundle(): Promise<Bundle> {
  const source = (path: string) => new URL(path, import.meta.url);
  const files = await bundle({
    app: source("./app.tsx"),
    style: source("./style.css"),
    offline_worker: source("./offline_worker.ts"),
  });
  const html = new Uint8Array(await readFile(source("./index.html")));
  return new Map([["index.html", html], ...files]);
}

if (import.meta.main) {
  await buildOrCheck(distFolder, await playgroundBundle(), "deno task build:playground");
}

/**
 * Serves what a page needs to run the engine itself: the module, its workers' scripts and the
 * WebAssembly modules, all under `/web/`. Models' files are the API's (`api/model_files.ts`).
 */
import type { Hono } from "hono";
import { variants } from "@/kernels/wasm/variants.ts";
import { type StaticFile, staticRoutes } from "./static_files.ts";

/** Workers get the rules of their own script, not those of the page. */
const workerPolicy = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self'",
  // Pictures may be anywhere that the page's own rules let it reach.
  "connect-src * data: blob:",
].join("; ");

const scripts = ["flotilla", "engine_worker", "kernel_worker", "codec_worker"];
const modules = [
  ...variants.map((variant) => `compute-${variant}/compute_bg.wasm`),
  "codec/codec_bg.wasm",
];

const files: readonly StaticFile[] = [
  ...scripts.map((name) => ({
    route: `/web/${name}.js`,
    source: new URL(`./dist/${name}.js`, import.meta.url),
    type: "text/javascript; charset=utf-8",
    headers: { "Content-Security-Policy": workerPolicy },
  })),
  ...modules.map((path) => ({
    route: `/web/wasm/${path}`,
    source: new URL(`../../wasm/${path}`, import.meta.url),
    type: "application/wasm",
  })),
];

/** Paths that hold no data and so need no API key. */
export const webPaths: readonly string[] = files.map((file) => file.route);

/** Routes of the engine for pages, to be mounted at the root of the server. */
export function webRoutes(): Hono {
  return staticRoutes(files);
}

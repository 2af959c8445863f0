/**
 * Serves the built page: `/` and the files under `/playground/`. Knows nothing of the API; the
 * page reaches that over HTTP like any client.
 */
import type { Hono } from "hono";
import { type StaticFile, staticRoutes } from "@/web/static_files.ts";

/**
 * Only our own scripts, styles and WebAssembly run; pictures come from the visitor (data: URLs).
 * Workers are started through one policy, which only our module uses.
 */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types flotilla flotilla-page",
].join("; ");

const file = (route: string, name: string, type: string): StaticFile => ({
  route,
  source: new URL(`./dist/${name}`, import.meta.url),
  type: `${type}; charset=utf-8`,
  headers: {
    "Content-Security-Policy": contentSecurityPolicy,
    // With the embedder policy of all files: pages so isolated may share memory between threads.
    "Cross-Origin-Opener-Policy": "same-origin",
  },
});

const offlineWorker: StaticFile = {
  route: "/playground/offline_worker.js",
  source: new URL("./dist/offline_worker.js", import.meta.url),
  type: "text/javascript; charset=utf-8",
  headers: {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'",
    // It answers for the page itself, which lies above its own folder.
    "Service-Worker-Allowed": "/",
  },
};

const files = [
  file("/", "index.html", "text/html"),
  file("/playground/app.js", "app.js", "text/javascript"),
  file("/playground/style.css", "style.css", "text/css"),
  offlineWorker,
];

/** Paths of the page, which hold no data and so need no API key. */
export const playgroundPaths: readonly string[] = files.map(({ route }) => route);

/** Routes of the page, to be mounted at the root of the server. */
export function playgroundRoutes(): Hono {
  return staticRoutes(files);
}

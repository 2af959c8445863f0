/**
 * Serves the cluster page: `/cluster/` and its two files; the look beneath is the playground's style
 * sheet. Knows nothing of the API; the page reaches that over HTTP like any client.
 */
import type { Hono } from "hono";
import { type StaticFile, staticRoutes } from "@/web/static_files.ts";

/** Only our own script and styles, and no picture but the icon of the page itself. */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
].join("; ");

const file = (route: string, name: string, type: string): StaticFile => ({
  route,
  source: new URL(`./dist/${name}`, import.meta.url),
  type: `${type}; charset=utf-8`,
  headers: { "Content-Security-Policy": contentSecurityPolicy },
});

const files = [
  file("/cluster/", "index.html", "text/html"),
  file("/cluster/app.js", "app.js", "text/javascript"),
  file("/cluster/style.css", "style.css", "text/css"),
];
const WITHOUT_SLASH = "/cluster";

/** Paths of the page, which hold no data and so need no API key. */
export const dashboardPaths: readonly string[] = [
  ...files.map(({ route }) => route),
  WITHOUT_SLASH,
];

/** Routes of the page, to be mounted at the root of the server. */
export function dashboardRoutes(): Hono {
  const routes = staticRoutes(files);
  routes.get(WITHOUT_SLASH, (context) => context.redirect("/cluster/", 308));
  return routes;
}

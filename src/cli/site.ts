/** The site: the pages' files, the engine for pages, and the API for everything else. */
import { dashboardPaths, dashboardRoutes } from "@/dashboard/assets.ts";
import { playgroundPaths, playgroundRoutes } from "@/playground/assets.ts";
import { webPaths, webRoutes } from "@/web/assets.ts";

export type Handler = (
  request: Request,
  info?: Deno.ServeHandlerInfo,
) => Response | Promise<Response>;

/** The shipped model. */
export const nanoFolder = new URL("../../models/nano", import.meta.url).pathname;

/** Joins files and API under one handler. */
export function siteHandler(app: { fetch: Handler }): Handler {
  const files = playgroundRoutes().route("/", dashboardRoutes()).route("/", webRoutes());
  const paths = new Set([...playgroundPaths, ...dashboardPaths, ...webPaths]);
  return (request, info) => {
    const { pathname } = new URL(request.url);
    const reads = request.method === "GET" || request.method === "HEAD";
    if (reads && paths.has(pathname)) return files.fetch(request);
    return app.fetch(request, info);
  };
}

/** The site: the page's files, and the API for everything else. */
import { playgroundPaths, playgroundRoutes } from "@/playground/assets.ts";

export type Handler = (
  request: Request,
  info?: Deno.ServeHandlerInfo,
) => Response | Promise<Response>;

/** The shipped model. */
export const nanoFolder = new URL("../../models/nano", import.meta.url).pathname;

/** Joins page and API under one handler. */
export function siteHandler(app: { fetch: Handler }): Handler {
  const page = playgroundRoutes();
  return (request, info) => {
    const { pathname } = new URL(request.url);
    const reads = request.method === "GET" || request.method === "HEAD";
    if (reads && playgroundPaths.includes(pathname)) return page.fetch(request);
    return app.fetch(request, info);
  };
}

/** The whole site around nano in this process: what a page loads, and the API to compare it with. */
import { createApp } from "@/api/app.ts";
import { offerFolder } from "@/cli/offers.ts";
import { openServing } from "@/cli/serving.ts";
import { type Handler, nanoFolder, siteHandler } from "@/cli/site.ts";
import { systemClock } from "@/clock.ts";
import { inlineCodec } from "@/media/codec.ts";
import { MediaLoader } from "@/media/media_source.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";

export interface Site extends AsyncDisposable {
  readonly origin: string;
  /** Paths asked for so far. */
  readonly paths: string[];
  /** Answers some requests differently; undefined leaves them to the site. */
  intercept: (request: Request) => Response | undefined | Promise<Response | undefined>;
}

/** An empty page that may share memory, with no rules of its own. */
const BLANK_HEADERS = {
  "content-type": "text/html",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
};

export async function startSite(
  options: { readonly variant?: "simd" } = {},
): Promise<Site> {
  const metrics = new Metrics();
  const serving = await openServing({
    id: "nano",
    folder: nanoFolder,
    backend: { name: "wasm", threads: 1, ...options },
    uprightPictures: true,
    log: silentLogger,
    metrics,
  });
  const app = createApp({
    models: [serving.served],
    clock: systemClock,
    log: silentLogger,
    metrics,
    mediaLoader: new MediaLoader({ allowedHosts: [] }),
    codec: inlineCodec(),
    offers: new Map([["nano", offerFolder("nano", nanoFolder)]]),
    version: "test",
    ready: () => true,
    startedAtMs: systemClock.nowMs(),
  });
  const site = siteHandler(app);
  const paths: string[] = [];
  const handler: Handler = async (request, info) => {
    const { pathname } = new URL(request.url);
    paths.push(pathname);
    const other = await state.intercept(request);
    if (other !== undefined) return other;
    if (pathname === "/blank") return new Response("<!doctype html>", { headers: BLANK_HEADERS });
    if (pathname === "/plain") {
      return new Response("<!doctype html>", { headers: { "content-type": "text/html" } });
    }
    if (pathname === "/favicon.ico") return new Response(null, { status: 204 });
    return await site(request, info);
  };
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, handler);
  const state: Site = {
    origin: `http://127.0.0.1:${server.addr.port}`,
    paths,
    intercept: () => undefined,
    [Symbol.asyncDispose]: async () => {
      await server.shutdown();
      await serving.close();
    },
  };
  return state;
}

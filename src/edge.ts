/**
 * The server as a single isolate: `deno serve --allow-read src/edge.ts`. No worker, no shared
 * memory, no subprocess: the single-threaded kernels and the codec run in this thread, so one
 * request's compute delays the others. The shipped nano is loaded on the first request.
 */
import { createApp } from "@/api/app.ts";
import { openServing } from "@/cli/serving.ts";
import { type Handler, nanoFolder, siteHandler } from "@/cli/site.ts";
import { VERSION } from "@/cli/version.ts";
import { systemClock } from "@/clock.ts";
import { inlineCodec } from "@/media/codec.ts";
import { MediaLoader } from "@/media/media_source.ts";
import { Logger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";

/** Rows and tiles of one step: small, so that the isolate answers between steps. */
const EDGE_BOUNDS = { stepTokens: 64, stepTiles: 1, runningSequences: 8, stepScores: 8 };

/** A handler that loads nano once, when it is first called. */
function edgeHandler(): Handler {
  let site: Promise<Handler> | undefined;
  return async (request, info) => {
    site ??= openSite();
    try {
      return await (await site)(request, info);
    } catch (error) {
      // A failed load is tried again by the next request.
      site = undefined;
      throw error;
    }
  };
}

async function openSite(): Promise<Handler> {
  const startedAtMs = systemClock.nowMs();
  const metrics = new Metrics();
  const log = new Logger({ level: "warn" });
  const { served } = await openServing({
    id: "nano",
    folder: nanoFolder,
    backend: { name: "wasm", variant: "simd" },
    quantisation: "none",
    uprightPictures: true,
    bounds: EDGE_BOUNDS,
    log,
    metrics,
  });
  return siteHandler(createApp({
    models: [served],
    clock: systemClock,
    log,
    metrics,
    mediaLoader: new MediaLoader({ allowedHosts: [] }),
    codec: inlineCodec(),
    version: VERSION,
    ready: () => true,
    startedAtMs,
  }));
}

export default { fetch: edgeHandler() } satisfies Deno.ServeDefaultExport;

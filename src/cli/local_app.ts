/** The application around one opened model without a listener, for checks that ask it in-process. */
import { createApp } from "@/api/app.ts";
import { systemClock } from "@/clock.ts";
import type { Codec } from "@/media/codec.ts";
import { MediaLoader } from "@/media/media_source.ts";
import { prepareVideo } from "@/media/video.ts";
import { silentLogger } from "@/telemetry/log.ts";
import type { Metrics } from "@/telemetry/metrics.ts";
import type { Serving } from "./serving.ts";
import { VERSION } from "./version.ts";

export type LocalApp = ReturnType<typeof createApp>;

/** Always ready, silent, and without media hosts; the caller closes `serving` and `codec`. */
export function localApp(args: { serving: Serving; codec: Codec; metrics: Metrics }): LocalApp {
  return createApp({
    models: [args.serving.served],
    clock: systemClock,
    log: silentLogger,
    metrics: args.metrics,
    mediaLoader: new MediaLoader({ allowedHosts: [] }),
    codec: args.codec,
    readVideo: prepareVideo,
    cluster: args.serving.cluster,
    version: VERSION,
    ready: () => true,
    startedAtMs: systemClock.nowMs(),
  });
}

/** `/livez`, `/readyz`, `/metrics` and `/version`: is the server alive, may it get work, how is it. */
import { OperatingError } from "@/errors.ts";
import type { AppContext } from "./exchange.ts";
import type { Services } from "./services.ts";

export function handleLive(): Response {
  return Response.json({ status: "alive" });
}

export function handleReady(_context: AppContext, services: Services): Response {
  if (services.ready()) return Response.json({ status: "ready" });
  throw new OperatingError("unavailable", "Server is starting or draining");
}

export function handleMetrics(_context: AppContext, { metrics }: Services): Response {
  return new Response(metrics.render(), {
    headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
  });
}

export function handleVersion(_context: AppContext, services: Services): Response {
  const uptimeSeconds = Math.floor((services.clock.nowMs() - services.startedAtMs) / 1000);
  return Response.json({
    name: "flotilla",
    version: services.version,
    uptime_seconds: uptimeSeconds,
  });
}

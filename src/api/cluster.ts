/**
 * `/cluster/*`: what an operator sees and asks of the shards that compute a model's experts. What
 * happens then is the cluster's own business (`cluster/front.ts`).
 */
import type { ClusterControl } from "@/cluster/cluster_control.ts";
import type { ClusterStatus } from "@/cluster/cluster_status.ts";
import type { ExpertMap } from "@/cluster/expert_map.ts";
import { OperatingError } from "@/errors.ts";
import type { AppContext } from "./exchange.ts";
import { drainSchema } from "./schema.ts";
import type { Services } from "./services.ts";
import { type SnakeCase, snakeCase } from "./snake_case.ts";
import { parseBody } from "./validation.ts";

/** Bodies of the answers. */
export type ClusterStatusBody = SnakeCase<ClusterStatus>;
export type ExpertMapBody = SnakeCase<ExpertMap>;

export function handleClusterStatus(_context: AppContext, services: Services): Response {
  return Response.json(snakeCase(clusterOf(services).status()));
}

export function handleClusterExperts(context: AppContext, services: Services): Response {
  const text = context.req.query("layer");
  if (text !== undefined && !/^\d{1,6}$/.test(text)) {
    throw new OperatingError("invalid_request", `Invalid layer: expected a number, got "${text}"`, {
      field: "layer",
    });
  }
  const layer = text === undefined ? undefined : Number(text);
  return Response.json(snakeCase(clusterOf(services).experts(layer)));
}

export async function handleClusterDrain(
  context: AppContext,
  services: Services,
): Promise<Response> {
  refuseOtherSites(context.req.raw);
  const cluster = clusterOf(services);
  const { node, draining } = parseBody(drainSchema, await context.var.exchange.readBody());
  cluster.drain(node, draining ?? true);
  return Response.json({ node, draining: draining ?? true }, { status: 202 });
}

export function handleClusterRebalance(context: AppContext, services: Services): Response {
  refuseOtherSites(context.req.raw);
  const cluster = clusterOf(services);
  cluster.rebalance();
  return Response.json({ epoch: cluster.status().epoch }, { status: 202 });
}

function clusterOf({ cluster }: Services): ClusterControl {
  if (cluster) return cluster;
  throw new OperatingError("not_found", "This server has no cluster: it was started without one");
}

/** A page that somebody else wrote may make a browser post here without being able to read. */
function refuseOtherSites(request: Request): void {
  const origin = request.headers.get("origin");
  if (origin === null || origin === new URL(request.url).origin) return;
  if (origin.replace(/^https?:\/\//, "") === request.headers.get("host")) return;
  throw new OperatingError("invalid_request", `Cannot take orders from a page of ${origin}`);
}

/** Finds the other nodes of a cluster through NATS: the lease of this process, from its command line. */
import { createHash } from "node:crypto";
import type { ConnectionOptions } from "@nats-io/transport-node";
import { systemClock } from "@/clock.ts";
import { defaultClusterBounds } from "@/cluster/bounds.ts";
import type { ExpertGrid } from "@/cluster/expert_grid.ts";
import type { NodeIdentity } from "@/cluster/handshake.ts";
import type { Membership } from "@/cluster/membership.ts";
import type { NatsAddress } from "@/cluster/nats_address.ts";
import { OperatingError } from "@/errors.ts";
import type { Logger } from "@/telemetry/log.ts";

/** How long a starting process waits for the server, and between two tries. */
const WAIT_MS = 60_000;
const RETRY_MS = 1000;

/** The name under which nodes of the same weights in the same format find each other. */
export function clusterNameOf(identity: Pick<NodeIdentity, "weightHash">, format: string): string {
  const hash = createHash("sha256").update(`${identity.weightHash} ${format}`).digest("hex");
  return `flotilla-${hash.slice(0, 12)}`;
}

function connectionOf({ servers, user, password, token, tls }: NatsAddress): ConnectionOptions {
  return {
    servers: [...servers],
    ...(user !== undefined && { user }),
    ...(password !== undefined && { pass: password }),
    ...(token !== undefined && { token }),
    ...(tls && { tls: {} }),
  };
}

/** Connects, waiting a while for a server that starts later. Throws OperatingError without one. */
export async function openNatsMembership(
  address: NatsAddress,
  options: { identity: NodeIdentity; format: string; grid: ExpertGrid; log: Logger },
): Promise<Membership> {
  const { identity, format, grid, log } = options;
  const cluster = address.cluster ?? clusterNameOf(identity, format);
  // Only who uses NATS loads its client.
  const { NatsMembership } = await import("@/cluster/nats_membership.ts");
  const connection = connectionOf(address);
  const endMs = systemClock.nowMs() + WAIT_MS;
  for (let isFirst = true;; isFirst = false) {
    try {
      return await NatsMembership.open({
        ...{ connection, cluster, grid, log, clock: systemClock, bounds: defaultClusterBounds },
      });
    } catch (error) {
      if (!(error instanceof OperatingError) || systemClock.nowMs() > endMs) throw error;
      const { servers } = address;
      if (isFirst) log.warn("waiting for NATS", { servers, reason: String(error.cause) });
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

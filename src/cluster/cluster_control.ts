/** What an operator can see and ask of a cluster, through the front of a served model. */
import type { ClusterStatus } from "./cluster_status.ts";
import type { ExpertMap } from "./expert_map.ts";
import type { NodeId } from "./placement.ts";

export interface ClusterControl {
  status(): ClusterStatus;
  /** Of one layer, or of all. Throws OperatingError("not_found") for a layer without experts. */
  experts(layer?: number): ExpertMap;
  /**
   * Asks a shard to give its experts away, or to take some again. It stays connected and serves until
   * others have them. Throws OperatingError("not_found") when it is not connected.
   */
  drain(node: NodeId, draining: boolean): void;
  /**
   * Plans anew, also when the gain does not pay; the planner may be another front. Throws
   * OperatingError("conflict") when none would hear of it.
   */
  rebalance(): void;
}

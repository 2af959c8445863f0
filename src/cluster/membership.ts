/**
 * The port through which a process learns who is in the cluster and which plan is in force. Its
 * implementations are in_process_membership.ts and nats_membership.ts. Level-triggered: consumers
 * look at the newest view instead of counting events.
 */
import type { ClusterNode, NodeId, Placement } from "./placement.ts";

export interface Member {
  readonly id: NodeId;
  /** Differs between two starts of the same process. */
  readonly incarnation: number;
  /** Fronts plan and call; the one with the oldest lease is the planner. */
  readonly role: "front" | "shard";
  /** Where its data plane listens; "" when nowhere. */
  readonly address: string;
  /** What it offers for experts; undefined: nothing. */
  readonly node: ClusterNode | undefined;
  /** Of a front: how often an operator asked it for a new plan. The planner sees it grow. */
  readonly rebalances?: number;
}

/** A member with its fencing token: the store's revision when this lease began. */
export interface LeasedMember {
  readonly member: Member;
  readonly fence: number;
}

export interface PublishedPlan {
  readonly placement: Placement;
  /** Who published it, with the fence it had. */
  readonly planner: NodeId;
  readonly fence: number;
  /** The store's revision of the plan: what the next compare-and-set must name. */
  readonly revision: number;
}

export interface MembershipView {
  /** Grows with every change of the store that this view contains. */
  readonly revision: number;
  readonly members: ReadonlyMap<NodeId, LeasedMember>;
  readonly plan: PublishedPlan | undefined;
}

export const emptyView: MembershipView = { revision: 0, members: new Map(), plan: undefined };

/** A member's own lease as it believes it to be. */
export interface Lease {
  readonly fence: number;
  /** False when the last successful renewal was sent a ttl ago: the store may have dropped us. */
  readonly isHeld: boolean;
}

export interface PlanProposal {
  readonly placement: Placement;
  readonly planner: NodeId;
  readonly fence: number;
  /** Revision of the plan that this one replaces; 0: there must be none. */
  readonly expectedRevision: number;
}

/**
 * How a process takes part. Calls return at once; what came of them shows in `view` and `lease`.
 * Disposing ends the lease and all work behind the scenes.
 */
export interface Membership extends AsyncDisposable {
  /** Takes a lease and keeps it, taking a new one when it is lost, until it is disposed. */
  join(member: Member): void;
  /** Changes what the lease says (e.g. draining) without a new fence. */
  update(member: Member): void;
  /** Publishes by compare-and-set: it appears in `view.plan`, or another plan does. */
  publishPlan(proposal: PlanProposal): void;
  readonly view: MembershipView;
  readonly lease: Lease;
  /** Calls `listener` after each change of the view, until the returned function is called. */
  watch(listener: () => void): () => void;
  /** Tells the other fronts what this one sends to each expert: tokens per second by slot. */
  shareLoad(load: Float64Array): void;
  /** What the other live fronts said last; who plans adds it up. */
  readonly loads: ReadonlyMap<NodeId, Float64Array>;
}

/** The front whose lease is oldest; it alone plans. */
export function plannerOf(view: MembershipView): LeasedMember | undefined {
  let oldest: LeasedMember | undefined;
  for (const leased of view.members.values()) {
    if (leased.member.role !== "front") continue;
    if (oldest === undefined || leased.fence < oldest.fence) oldest = leased;
  }
  return oldest;
}

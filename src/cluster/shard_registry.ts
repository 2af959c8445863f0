/**
 * Who the shards of a front are, and whose lease is kept by whom. Without a store, shards are found
 * at given addresses and have a lease while they are connected and report; with one, they keep
 * their leases there themselves and say where they listen.
 */
import type { Clock } from "@/clock.ts";
import type { ClusterBounds } from "./bounds.ts";
import { InProcessMembership } from "./in_process_membership.ts";
import { MemberTable } from "./member_table.ts";
import type { Member, Membership } from "./membership.ts";
import type { NodeId } from "./placement.ts";

export interface ShardRegistry extends AsyncDisposable {
  readonly membership: Membership;
  /** Where shards are to be dialled; look again after each change of the membership's view. */
  readonly addresses: readonly string[];
  /** Shards that a first plan waits for, for a while. */
  readonly expectedNodes: number;
  /** A connected shard said who it is. */
  met(member: Member): void;
  /** A connected shard reported. */
  heard(node: NodeId): void;
  /** A shard's connection ended. */
  lost(node: NodeId): void;
}

/** Shards at known addresses, or that dial us; leases live in this process. */
export class ConnectedShards implements ShardRegistry {
  readonly membership: InProcessMembership;
  readonly addresses: readonly string[];
  readonly expectedNodes: number;
  readonly #table: MemberTable;
  readonly #clock: Clock;
  readonly #leases = new Map<NodeId, { member: Member; fence: number }>();

  constructor(options: {
    front: Member;
    addresses: readonly string[];
    clock: Clock;
    bounds: Pick<ClusterBounds, "leaseTtlMs" | "leaseRenewMs">;
  }) {
    const { front, addresses, clock, bounds } = options;
    this.addresses = addresses;
    this.expectedNodes = Math.max(1, addresses.length);
    this.#clock = clock;
    // Shards follow the highest fence: those of an earlier front must stay behind.
    const firstRevision = Math.floor(clock.epochMs());
    this.#table = new MemberTable({ ttlMs: bounds.leaseTtlMs, firstRevision });
    const renewMs = bounds.leaseRenewMs;
    this.membership = new InProcessMembership({ table: this.#table, clock, renewMs });
    this.membership.join(front);
  }

  met(member: Member): void {
    const lease = this.#leases.get(member.id);
    const fence = lease?.member.incarnation === member.incarnation ? lease.fence : 0;
    this.#keep(member, fence);
  }

  heard(node: NodeId): void {
    const lease = this.#leases.get(node);
    if (lease) this.#keep(lease.member, lease.fence);
  }

  lost(node: NodeId): void {
    this.#table.leave(node, this.#leases.get(node)?.fence ?? 0);
    this.#leases.delete(node);
    this.membership.tick();
  }

  /** Renews; this process may itself have stood still: an expired lease begins anew. */
  #keep(member: Member, fence: number): void {
    const nowMs = this.#clock.nowMs();
    const isKept = fence > 0 && this.#table.renew(member, { fence, nowMs });
    const kept = isKept ? fence : this.#table.join(member, nowMs) ?? 0;
    this.#leases.set(member.id, { member, fence: kept });
    this.membership.tick();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.membership[Symbol.asyncDispose]();
  }
}

/** Shards that keep their leases in a store, where they say at which address they listen. */
export class LeasedShards implements ShardRegistry {
  readonly membership: Membership;
  readonly expectedNodes = 1;

  /** Owns the membership from now on. */
  constructor(membership: Membership, front: Member) {
    this.membership = membership;
    membership.join(front);
  }

  get addresses(): readonly string[] {
    return [...this.membership.view.members.values()].flatMap(({ member: { role, address } }) =>
      role === "shard" && address !== "" ? [address] : []
    );
  }

  met(): void {}
  heard(): void {}
  lost(): void {}

  async [Symbol.asyncDispose](): Promise<void> {
    await this.membership[Symbol.asyncDispose]();
  }
}

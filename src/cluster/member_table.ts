/**
 * The store behind a membership: leases with fencing tokens and one plan, under one revision
 * counter. Pure: time is handed in. NATS JetStream KV does the same over the network.
 */
import type {
  LeasedMember,
  Member,
  MembershipView,
  PlanProposal,
  PublishedPlan,
} from "./membership.ts";
import type { NodeId } from "./placement.ts";

interface Entry extends LeasedMember {
  readonly renewedMs: number;
}

export class MemberTable {
  readonly #ttlMs: number;
  readonly #members = new Map<NodeId, Entry>();
  #plan: PublishedPlan | undefined;
  #revision: number;
  #view: MembershipView | undefined;

  /** `firstRevision` must exceed those of an earlier store with the same members. */
  constructor(options: { ttlMs: number; firstRevision?: number }) {
    this.#ttlMs = options.ttlMs;
    this.#revision = options.firstRevision ?? 0;
  }

  get view(): MembershipView {
    return this.#view ??= {
      revision: this.#revision,
      members: new Map(
        [...this.#members].map(([id, { member, fence }]) => [id, { member, fence }]),
      ),
      plan: this.#plan,
    };
  }

  /**
   * A lease for the member; one of an earlier process of that name ends. Returns its fence, or
   * undefined when a later process of that name has a lease.
   */
  join(member: Member, nowMs: number): number | undefined {
    this.tick(nowMs);
    const holder = this.#members.get(member.id)?.member;
    if (holder && holder.incarnation > member.incarnation) return undefined;
    const fence = this.#changed();
    this.#members.set(member.id, { member, fence, renewedMs: nowMs });
    return fence;
  }

  /** Renews a lease, perhaps with new facts. False when it is not this member's any more. */
  renew(member: Member, { fence, nowMs }: { fence: number; nowMs: number }): boolean {
    this.tick(nowMs);
    const entry = this.#members.get(member.id);
    if (entry?.fence !== fence) return false;
    if (entry.member !== member) this.#changed();
    this.#members.set(member.id, { member, fence, renewedMs: nowMs });
    return true;
  }

  leave(id: NodeId, fence: number): void {
    if (this.#members.get(id)?.fence !== fence) return;
    this.#members.delete(id);
    this.#changed();
  }

  /** Drops leases that were not renewed for a ttl. */
  tick(nowMs: number): void {
    for (const [id, { renewedMs }] of this.#members) {
      if (nowMs - renewedMs < this.#ttlMs) continue;
      this.#members.delete(id);
      this.#changed();
    }
  }

  /** Compare-and-set. Refuses when the plan changed meanwhile, or the epoch would not grow. */
  publish(proposal: PlanProposal): boolean {
    const { placement, planner, fence } = proposal;
    if (proposal.expectedRevision !== (this.#plan?.revision ?? 0)) return false;
    if (placement.epoch <= (this.#plan?.placement.epoch ?? 0)) return false;
    this.#plan = { placement, planner, fence, revision: this.#changed() };
    return true;
  }

  #changed(): number {
    this.#view = undefined;
    return ++this.#revision;
  }
}

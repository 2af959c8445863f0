/**
 * Membership inside one process: nothing to install. A front uses it alone, and enters its shards
 * by hand while their connections live (`table.join`, `table.renew`).
 */
import type { Clock } from "@/clock.ts";
import type { MemberTable } from "./member_table.ts";
import type { Lease, Member, Membership, MembershipView, PlanProposal } from "./membership.ts";

export class InProcessMembership implements Membership {
  /** There is one front. */
  readonly loads: Membership["loads"] = new Map();
  readonly table: MemberTable;
  readonly #clock: Clock;
  readonly #listeners = new Set<() => void>();
  readonly #timer: ReturnType<typeof setInterval>;
  #member: Member | undefined;
  #fence = 0;
  #seenRevision: number;

  /** Renews and expires leases every `renewMs`. */
  constructor(args: { table: MemberTable; clock: Clock; renewMs: number }) {
    this.table = args.table;
    this.#clock = args.clock;
    this.#seenRevision = args.table.view.revision;
    this.#timer = setInterval(() => this.tick(), args.renewMs);
  }

  join(member: Member): void {
    this.#member = member;
    this.#fence = this.table.join(member, this.#clock.nowMs()) ?? 0;
    this.#notify();
  }

  update(member: Member): void {
    this.#member = member;
    this.tick();
  }

  publishPlan(proposal: PlanProposal): void {
    this.table.publish(proposal);
    this.#notify();
  }

  shareLoad(): void {}

  get view(): MembershipView {
    return this.table.view;
  }

  get lease(): Lease {
    return { fence: this.#fence, isHeld: this.#fence > 0 };
  }

  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Renews the own lease, drops others that are too old, and tells of changes. */
  tick(): void {
    const nowMs = this.#clock.nowMs();
    const member = this.#member;
    // A suspended process wakes up to an expired lease; nobody else can have taken its place.
    if (member && !this.table.renew(member, { fence: this.#fence, nowMs })) {
      this.#fence = this.table.join(member, nowMs) ?? 0;
    }
    this.table.tick(nowMs);
    this.#notify();
  }

  #notify(): void {
    const { revision } = this.table.view;
    if (revision === this.#seenRevision) return;
    this.#seenRevision = revision;
    for (const listener of this.#listeners) listener();
  }

  [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    if (this.#member) this.table.leave(this.#member.id, this.#fence);
    this.#member = undefined;
    this.#fence = 0;
    this.#notify();
    return Promise.resolve();
  }
}

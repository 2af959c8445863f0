/**
 * Membership in NATS JetStream key-value buckets, for several fronts and real deployments. Leases
 * live in one bucket whose entries expire, the plan in another whose entries do not. Only control
 * goes through NATS; calls never do.
 *
 * An entry that expires is announced by servers from 2.11 on. Older ones keep silent, so a member
 * that was not renewed for a ttl and a renewal is dropped here too, while our own lease is renewed.
 */
import { type KV, Kvm, type KvWatchEntry } from "@nats-io/kv";
import {
  connect,
  type ConnectionOptions,
  type Msg,
  type NatsConnection,
} from "@nats-io/transport-node";
import type { Clock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import type { Logger } from "@/telemetry/log.ts";
import type { ClusterBounds } from "./bounds.ts";
import type { ExpertGrid } from "./expert_grid.ts";
import { LeaseKeeper } from "./lease_keeper.ts";
import { decodeLoad, encodeLoad } from "./load_bytes.ts";
import { checkNodeId, decodeMember, decodePlan, encodeMember, encodePlan } from "./member_text.ts";
import type {
  Lease,
  LeasedMember,
  Member,
  Membership,
  MembershipView,
  PlanProposal,
  PublishedPlan,
} from "./membership.ts";
import type { NodeId } from "./placement.ts";

const PLAN_KEY = "plan";
/** The server's answer to a compare-and-set that lost. */
const WRONG_LAST_SEQUENCE = 10071;

export interface NatsMembershipOptions {
  /** Servers and credentials, as the NATS client takes them. */
  readonly connection: ConnectionOptions;
  /** Names the buckets: clusters with different names do not see each other. */
  readonly cluster: string;
  readonly grid: ExpertGrid;
  readonly bounds: Pick<ClusterBounds, "leaseTtlMs" | "leaseRenewMs">;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Seen extends LeasedMember {
  readonly seenMs: number;
}

export class NatsMembership implements Membership {
  readonly #options: NatsMembershipOptions;
  readonly #connection: NatsConnection;
  readonly #members: KV;
  readonly #plans: KV;
  readonly #keeper: LeaseKeeper;
  readonly #seen = new Map<NodeId, Seen>();
  readonly #listeners = new Set<() => void>();
  readonly #loads = new Map<NodeId, Float64Array>();
  readonly #timer: ReturnType<typeof setInterval>;
  #plan: PublishedPlan | undefined;
  #view: MembershipView | undefined;
  #revision = 0;
  #member: Member | undefined;
  /** Revision of our own entry: what the next renewal must name. */
  #entryRevision = 0;
  #isAsking = false;
  /** Our entry is to be written again: the member changed while another request was under way. */
  #isOutdated = false;

  /** Connects, makes the buckets and starts to watch. Throws OperatingError without a server. */
  static async open(options: NatsMembershipOptions): Promise<NatsMembership> {
    checkNodeId(options.cluster);
    const connection = await connect({ ...options.connection, maxReconnectAttempts: -1 })
      .catch((cause) => {
        throw new OperatingError("unavailable", "Cannot reach the NATS server", { cause });
      });
    try {
      const { members, plans } = await openBuckets(connection, options);
      const membership = new NatsMembership(options, { connection, members, plans });
      await membership.#watchBuckets();
      return membership;
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  private constructor(
    options: NatsMembershipOptions,
    parts: { connection: NatsConnection; members: KV; plans: KV },
  ) {
    const { leaseTtlMs: ttlMs, leaseRenewMs: renewMs } = options.bounds;
    this.#options = options;
    this.#connection = parts.connection;
    this.#members = parts.members;
    this.#plans = parts.plans;
    this.#keeper = new LeaseKeeper({ ttlMs, renewMs });
    this.#timer = setInterval(() => this.#tick(), renewMs / 4);
  }

  join(member: Member): void {
    checkNodeId(member.id);
    if (member.role === "front" && !this.#member) this.#listenToLoads();
    this.#member = member;
    this.#tick();
  }

  update(member: Member): void {
    this.#member = member;
    // Two renewals at a time would name the same revision, and one would cost the lease.
    if (this.#isAsking) this.#isOutdated = true;
    else if (this.#keeper.fence > 0) void this.#ask("renew");
  }

  shareLoad(load: Float64Array): void {
    const id = this.#member?.id;
    // The client keeps what it cannot send: without a lease there is no telling for how long.
    if (id === undefined || !this.lease.isHeld || this.#connection.isClosed()) return;
    this.#connection.publish(`${this.#loadSubject}.${id}`, encodeLoad(load));
  }

  get loads(): ReadonlyMap<NodeId, Float64Array> {
    return this.#loads;
  }

  get #loadSubject(): string {
    return `flotilla.load.${this.#options.cluster}`;
  }

  publishPlan(proposal: PlanProposal): void {
    const { expectedRevision } = proposal;
    const text = encodePlan(proposal);
    const sent = expectedRevision === 0
      ? this.#plans.create(PLAN_KEY, text)
      : this.#plans.update(PLAN_KEY, text, expectedRevision);
    // A plan that lost shows in the view as the one that won.
    sent.catch((error) => {
      if (!isConflict(error)) this.#warn("A plan could not be published", error);
    });
  }

  get view(): MembershipView {
    return this.#view ??= {
      revision: this.#revision,
      members: new Map(
        [...this.#seen].map(([id, { member, fence }]) => [id, { member, fence }]),
      ),
      plan: this.#plan,
    };
  }

  get lease(): Lease {
    return { fence: this.#keeper.fence, isHeld: this.#keeper.isHeld(this.#options.clock.nowMs()) };
  }

  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #tick(): void {
    if (!this.#member || this.#isAsking) return;
    const nowMs = this.#options.clock.nowMs();
    this.#dropSilent(nowMs);
    const action = this.#keeper.tick(nowMs);
    if (action) void this.#ask(action);
  }

  /** Takes or renews the lease; failures are tried again with the next tick. */
  async #ask(action: "join" | "renew"): Promise<void> {
    const member = this.#member!;
    const sentMs = this.#options.clock.nowMs();
    const fence = this.#keeper.fence;
    this.#isAsking = true;
    try {
      if (action === "join") {
        const revision = await this.#take(member);
        if (revision === undefined) return;
        this.#entryRevision = revision;
        this.#keeper.granted(revision, sentMs);
      } else {
        const text = encodeMember(member, fence);
        this.#entryRevision = await this.#members.update(member.id, text, this.#entryRevision);
        this.#keeper.granted(fence, sentMs);
      }
    } catch (error) {
      if (isConflict(error)) this.#keeper.refused(fence);
      else this.#warn("The lease could not be renewed", error);
    } finally {
      this.#isAsking = false;
      if (this.#isOutdated) this.#askAgain();
    }
  }

  #askAgain(): void {
    this.#isOutdated = false;
    if (this.#member && this.#keeper.fence > 0) void this.#ask("renew");
  }

  /** Writes our entry over none, or over that of an earlier process of this name. */
  async #take(member: Member): Promise<number | undefined> {
    const { grid, log } = this.#options;
    const entry = await this.#members.get(member.id);
    const text = encodeMember(member, undefined);
    if (entry?.operation !== "PUT") return await this.#members.create(member.id, text);
    const { incarnation } = decodeMember(entry.string(), grid).member;
    if (incarnation > member.incarnation) {
      log.warn("A later process has this node's name", { node: member.id });
      return undefined;
    }
    return await this.#members.update(member.id, text, entry.revision);
  }

  /** Expired entries that the server did not announce. Says nothing while we are cut off ourselves. */
  #dropSilent(nowMs: number): void {
    const { leaseTtlMs, leaseRenewMs } = this.#options.bounds;
    if (!this.#keeper.isHeld(nowMs)) return;
    let isChanged = false;
    for (const [id, { seenMs }] of this.#seen) {
      if (nowMs - seenMs < leaseTtlMs + leaseRenewMs) continue;
      isChanged = this.#seen.delete(id);
    }
    if (isChanged) this.#changed();
  }

  async #watchBuckets(): Promise<void> {
    const members = await this.#members.watch();
    const plans = await this.#plans.watch({ key: PLAN_KEY });
    void this.#follow(members, (entry) => this.#seeMember(entry));
    void this.#follow(plans, (entry) => this.#seePlan(entry));
  }

  /** Only fronts plan; others need no loads. */
  #listenToLoads(): void {
    const loads = this.#connection.subscribe(`${this.#loadSubject}.*`);
    void this.#follow(loads, (message) => this.#seeLoad(message));
  }

  async #follow<T extends KvWatchEntry | Msg>(
    news: AsyncIterable<T>,
    see: (piece: T) => void,
  ): Promise<void> {
    for await (const piece of news) {
      try {
        see(piece);
      } catch (error) {
        // Another version's, perhaps; it must not hide the others.
        const where = "bucket" in piece ? piece.bucket : piece.subject;
        this.#warn(`An entry of ${where} cannot be read`, error);
      }
    }
  }

  #seeLoad({ subject, data }: Msg): void {
    const id = subject.slice(subject.lastIndexOf(".") + 1);
    if (id === this.#member?.id) return;
    const load = decodeLoad(data, this.#options.grid.size);
    // Who is not known yet says it again soon.
    if (this.#seen.get(id)?.member.role === "front") this.#loads.set(id, load);
  }

  #seeMember(entry: KvWatchEntry): void {
    if (entry.operation !== "PUT") {
      if (this.#seen.delete(entry.key)) this.#changed();
      return;
    }
    const { member, fence = entry.revision } = decodeMember(entry.string(), this.#options.grid);
    const before = this.#seen.get(member.id);
    const seenMs = this.#options.clock.nowMs();
    this.#seen.set(member.id, { member, fence, seenMs });
    const isSame = before?.fence === fence &&
      encodeMember(before.member, fence) === encodeMember(member, fence);
    if (!isSame) this.#changed();
  }

  #seePlan(entry: KvWatchEntry): void {
    const { revision } = entry;
    this.#plan = entry.operation === "PUT"
      ? decodePlan(entry.string(), { grid: this.#options.grid, revision })
      : undefined;
    this.#changed();
  }

  #changed(): void {
    this.#revision += 1;
    this.#view = undefined;
    for (const id of this.#loads.keys()) if (!this.#seen.has(id)) this.#loads.delete(id);
    for (const listener of this.#listeners) listener();
  }

  #warn(message: string, error: unknown): void {
    if (!this.#connection.isClosed()) this.#options.log.warn(message, { error: String(error) });
  }

  /** Gives the lease back and closes the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    const member = this.#member;
    this.#member = undefined;
    if (member && this.#keeper.fence > 0 && !this.#connection.isClosed()) {
      await this.#members.delete(member.id, { previousSeq: this.#entryRevision }).catch((error) => {
        // It expires by itself.
        this.#warn("The lease could not be given back", error);
      });
    }
    await this.#connection.close();
  }
}

async function openBuckets(
  connection: NatsConnection,
  { cluster, bounds, log }: NatsMembershipOptions,
): Promise<{ members: KV; plans: KV }> {
  const kvm = new Kvm(connection);
  const ttl = bounds.leaseTtlMs;
  const name = `${cluster}_members`;
  let members: KV;
  try {
    members = await kvm.create(name, { history: 1, ttl, markerTTL: Math.max(1000, 2 * ttl) });
  } catch (error) {
    log.warn("The NATS server does not announce expired leases", { error: String(error) });
    members = await kvm.create(name, { history: 1, ttl });
  }
  return { members, plans: await kvm.create(`${cluster}_plan`, { history: 1 }) };
}

function isConflict(error: unknown): boolean {
  return error instanceof Error && (error as { code?: unknown }).code === WRONG_LAST_SEQUENCE;
}

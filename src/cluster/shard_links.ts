/**
 * A front's connections to its shards: dialled by us or by them, one per shard, known by name once
 * the shard has introduced itself. It passes on what they say and decides nothing.
 */
import type { ExpertGrid } from "./expert_grid.ts";
import { decodeReport } from "./assignment_text.ts";
import { CallChannel } from "./call_channel.ts";
import type { Connection } from "./connection.ts";
import type { ControlMessage } from "./control_frames.ts";
import { Dialer } from "./dialer.ts";
import type { HeldReport } from "./holdings.ts";
import { decodeMember } from "./member_text.ts";
import type { Member } from "./membership.ts";
import type { NodeId } from "./placement.ts";
import { ProtocolError } from "./protocol_error.ts";
import type { Transport } from "./transport.ts";

export interface ShardLinksOptions {
  readonly grid: ExpertGrid;
  readonly transport: Transport;
  /** A shard says who it is, or something new about itself. */
  readonly met: (member: Member, isFirst: boolean) => void;
  readonly reported: (report: HeldReport) => void;
  /** Its connection ended. */
  readonly lost: (node: NodeId) => void;
  /** For the log. */
  readonly noticed?:
    | ((message: string, facts: Readonly<Record<string, unknown>>) => void)
    | undefined;
}

interface Link {
  readonly connection: Connection;
  readonly address: string;
  channel: CallChannel | undefined;
  member: Member | undefined;
  /** The last one, and as it came. */
  report: { readonly text: string; readonly value: HeldReport } | undefined;
}

export class ShardLinks {
  readonly #options: ShardLinksOptions;
  readonly #dialer: Dialer;
  readonly #links = new Map<NodeId, Link>();
  #isClosed = false;

  constructor(options: ShardLinksOptions) {
    this.#options = options;
    this.#dialer = new Dialer({
      transport: options.transport,
      connected: (connection, address, ended) => this.#connect(connection, { address, ended }),
      failed: (address, reason) => options.noticed?.("no shard answers", { address, reason }),
    });
  }

  /** Addresses at which no shard answers, and why. */
  get silent(): Dialer["silent"] {
    return this.#dialer.silent;
  }

  /** Names of the shards that are connected. */
  get nodes(): readonly NodeId[] {
    return [...this.#links.keys()];
  }

  connection(node: NodeId): Connection | undefined {
    return this.#links.get(node)?.connection;
  }

  channel(node: NodeId): CallChannel | undefined {
    return this.#links.get(node)?.channel;
  }

  /** Dials these addresses, and no others, from now on. */
  follow(addresses: Iterable<string>): void {
    if (!this.#isClosed) this.#dialer.follow(addresses);
  }

  /** Takes a shard that dialled us. */
  accept(connection: Connection): void {
    this.#connect(connection, { address: connection.peerAddress, ended: () => {} });
  }

  close(): void {
    this.#isClosed = true;
    this.#dialer.close();
    for (const { connection } of [...this.#links.values()]) connection.close();
  }

  #connect(
    connection: Connection,
    { address, ended }: { address: string; ended: () => void },
  ): "taken" | "later" {
    const { nodeId: node, role } = connection.peer;
    const { noticed } = this.#options;
    if (this.#isClosed || role !== "shard" || this.#links.has(node)) {
      connection.close();
      if (!this.#isClosed) {
        const problem = role === "shard" ? "two shards have one name" : "this is no shard";
        noticed?.(problem, { node, address });
      }
      return "later";
    }
    const link: Link = {
      connection,
      address,
      channel: undefined,
      member: undefined,
      report: undefined,
    };
    this.#links.set(node, link);
    const { numericClass } = connection.peer;
    noticed?.("shard connected", { node, address, numericClass });
    // Frames that came early are handed over before the constructor returns.
    link.channel = new CallChannel(connection, {
      message: (message) => this.#take(link, message),
      closed: (end) => {
        noticed?.("shard lost", { node, address, reason: end.kind });
        this.#links.delete(node);
        this.#options.lost(node);
        ended();
      },
    });
    return "taken";
  }

  #take(link: Link, message: ControlMessage): void {
    const { grid } = this.#options;
    try {
      if (message.type === "member") this.#meet(link, decodeMember(message.text, grid).member);
      else if (message.type === "report") {
        // It mostly says the same again, five times a second, and takes milliseconds to read.
        if (link.report?.text !== message.text) {
          link.report = { text: message.text, value: decodeReport(message.text, grid) };
        }
        this.#report(link, link.report!.value);
      }
    } catch (error) {
      if (!(error instanceof SyntaxError || error instanceof RangeError)) throw error;
      throw new ProtocolError("body", error.message);
    }
  }

  #meet(link: Link, member: Member): void {
    const { nodeId } = link.connection.peer;
    if (member.id !== nodeId || member.role !== "shard") {
      throw new ProtocolError("body", `${nodeId} says that it is ${member.role} ${member.id}`);
    }
    const isFirst = link.member === undefined;
    link.member = { ...member, address: link.address };
    this.#options.met(link.member, isFirst);
  }

  /** Reports of a process that has not introduced itself are nobody's. */
  #report({ member }: Link, report: HeldReport): void {
    if (report.node !== member?.id || report.incarnation !== member.incarnation) return;
    this.#options.reported(report);
  }
}

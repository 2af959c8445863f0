/**
 * Expert calls over one connection, from the caller's side: numbers them, matches answers, waits
 * for credit in order, and cancels. When to give up, to ask again or elsewhere is not decided here.
 */
import { limits } from "@/limits.ts";
import {
  answers,
  decodeResult,
  encodeCall,
  type ExpertCall,
  type ExpertResult,
} from "./call_frames.ts";
import type { Connection, ConnectionEnd, ReceivedFrame } from "./connection.ts";
import {
  type ControlMessage,
  decodeControl,
  encodeControl,
  type Refusal,
} from "./control_frames.ts";
import type { OutgoingFrame } from "./frame.ts";
import { ProtocolError } from "./protocol_error.ts";

/** How a call ended; each call ends once, unless it is cancelled. */
export type CallOutcome =
  | { readonly type: "result"; readonly result: ExpertResult; readonly receivedMs: number }
  | { readonly type: "refusal"; readonly refusal: Refusal }
  /** The connection ended, or too much waits for credit already: ask elsewhere. */
  | { readonly type: "lost"; readonly reason: "closed" | "congested" };

/** A call without its number: the channel gives it. */
export type UnnumberedCall = Omit<ExpertCall, "callId">;

export interface ChannelEvents {
  /** Reports, members and whatever else is no answer to a call. */
  message(message: ControlMessage): void;
  closed(end: ConnectionEnd): void;
}

interface PendingCall {
  /** What the answer must fit; the rows themselves are in the frame. */
  readonly asked: Omit<ExpertCall, "source" | "rowIndex" | "encoded">;
  readonly finish: (outcome: CallOutcome) => void;
}

interface WaitingFrame {
  readonly callId: number;
  readonly frame: OutgoingFrame;
}

export class CallChannel {
  readonly #connection: Connection;
  readonly #events: ChannelEvents;
  readonly #pending = new Map<number, PendingCall>();
  /** Frames for which there was no credit, oldest first. */
  #waiting: WaitingFrame[] = [];
  #waitingBytes = 0;
  #nextCallId = 1;

  /** Becomes the connection's owner. */
  constructor(connection: Connection, events: ChannelEvents) {
    this.#connection = connection;
    this.#events = events;
    connection.attach({
      frame: (frame) => this.#take(frame),
      writable: () => this.#flush(),
      closed: (end) => this.#close(end),
    });
  }

  get connection(): Connection {
    return this.#connection;
  }

  /** Calls that are not answered yet. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  /**
   * Sends a call and returns its number. The rows are copied before this returns. `finish` is
   * called once, never before this has returned.
   */
  call(call: UnnumberedCall, finish: (outcome: CallOutcome) => void): number {
    const callId = this.#nextCallId;
    this.#nextCallId = callId === 0xffff_ffff ? 1 : callId + 1;
    const frame = encodeCall({ ...call, callId });
    const { source: _source, rowIndex: _rowIndex, encoded: _encoded, ...asked } = call;
    this.#pending.set(callId, { asked: { ...asked, callId }, finish });
    const bytes = frame.bytes.length;
    const mayWait = this.#waitingBytes + bytes <= limits.clusterWindowBytes;
    const sent = this.#waiting.length > 0 ? "full" : this.#connection.send(frame);
    if (sent === "full" && mayWait) {
      this.#waiting.push({ callId, frame });
      this.#waitingBytes += bytes;
    } else if (sent !== "sent") {
      const reason = sent === "closed" ? "closed" : "congested";
      queueMicrotask(() => this.#finish(callId, { type: "lost", reason }));
    }
    return callId;
  }

  /** The answer is not wanted any more: it is never delivered. Unknown numbers do no harm. */
  cancel(callId: number): void {
    if (!this.#pending.delete(callId)) return;
    const place = this.#waiting.findIndex((waiting) => waiting.callId === callId);
    if (place < 0) {
      this.#connection.send(encodeControl({ type: "cancel", callId }));
      return;
    }
    const [waiting] = this.#waiting.splice(place, 1);
    this.#waitingBytes -= waiting!.frame.bytes.length;
  }

  /** Sends an assignment or another message; "full" when a long one has no credit yet. */
  send(message: ControlMessage): "sent" | "full" | "closed" {
    return this.#connection.send(encodeControl(message));
  }

  close(): void {
    this.#connection.close();
  }

  #flush(): void {
    while (this.#waiting.length > 0) {
      const { frame } = this.#waiting[0]!;
      if (this.#connection.send(frame) !== "sent") return;
      this.#waiting.shift();
      this.#waitingBytes -= frame.bytes.length;
    }
  }

  #take(frame: ReceivedFrame): void {
    if (frame.header.type === "result") {
      const result = decodeResult(frame);
      const call = this.#pending.get(result.callId);
      // The answer to a cancelled call may have been under way.
      if (call === undefined) return;
      if (!answers(result, call.asked)) {
        throw new ProtocolError("body", `result ${result.callId} does not fit its call`);
      }
      const { receivedMs } = frame;
      return this.#finish(result.callId, { type: "result", result, receivedMs });
    }
    const message = decodeControl(frame);
    if (message.type !== "refusal") return this.#events.message(message);
    this.#finish(message.refusal.callId, { type: "refusal", refusal: message.refusal });
  }

  #finish(callId: number, outcome: CallOutcome): void {
    const call = this.#pending.get(callId);
    if (call === undefined) return;
    this.#pending.delete(callId);
    call.finish(outcome);
  }

  #close(end: ConnectionEnd): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
    for (const callId of [...this.#pending.keys()]) {
      this.#finish(callId, { type: "lost", reason: "closed" });
    }
    this.#events.closed(end);
  }
}

/**
 * One connection between two nodes over any byte stream: handshake, frames, credit, heartbeat and
 * the reason of its end. It knows no calls and no experts.
 */
import { assert } from "@/assert.ts";
import type { Clock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import type { ByteStream } from "./byte_stream.ts";
import { decodeControl, encodeControl, type LoadReport } from "./control_frames.ts";
import { ReceiveWindow, SendWindow } from "./credit_window.ts";
import {
  FLAG_SEALED,
  type Frame,
  type FrameHeader,
  frameRules,
  HEADER_BYTES,
  type OutgoingFrame,
  setSealedFlag,
  writeChecksum,
} from "./frame.ts";
import { type DecodedFrame, FrameDecoder } from "./frame_decoder.ts";
import { FrameSeal } from "./frame_seal.ts";
import {
  type Agreement,
  decodeReject,
  encodeReject,
  Handshake,
  type HandshakeOptions,
  type NodeIdentity,
} from "./handshake.ts";
import { Heartbeat, type RoundTrip } from "./heartbeat.ts";
import { HandshakeError, ProtocolError } from "./protocol_error.ts";

/** Why a connection ended. */
export interface ConnectionEnd {
  readonly kind:
    | "local" // we closed it
    | "remote" // the peer closed it, or its process ended
    | "refused" // the peer refused us after all
    | "protocol" // the peer broke the rules
    | "silent" // nothing was heard for too long
    | "stuck" // the peer does not read
    | "failed"; // the stream or our own handler failed
  readonly error: Error | undefined;
}

/** A frame of the peer that is neither handshake, heartbeat nor credit. */
export interface ReceivedFrame extends Frame {
  /** Local time at which it was complete. */
  readonly receivedMs: number;
}

export interface ConnectionEvents {
  /**
   * A call, result, refusal, cancel, assignment, report or member. Its bytes count against the peer's
   * window until the returned promise settles. A ProtocolError thrown here closes the connection.
   */
  frame(frame: ReceivedFrame): void | Promise<void>;
  /** After a `send` that said "full": there is credit again. */
  writable?(): void;
  /** Once, also when the connection had ended before it was attached. */
  closed(end: ConnectionEnd): void;
}

export interface Connection {
  readonly peer: NodeIdentity;
  /** Address of the peer, for the log. */
  readonly peerAddress: string;
  /** Largest frame (header and body) that both sides take. */
  readonly frameBytesMax: number;
  /** Undefined until the first heartbeat was answered. */
  readonly roundTrip: RoundTrip | undefined;
  /** The peer's own figures with its last heartbeat answer. */
  readonly peerLoad: LoadReport | undefined;
  readonly closed: boolean;
  /** Says who takes the frames. Once; frames that came before are handed over in order. */
  attach(events: ConnectionEvents): void;
  /**
   * Sends a frame, which belongs to the connection if the answer is "sent". "full": nothing was
   * sent, the peer has to consume first; wait for `writable`.
   */
  send(frame: OutgoingFrame): "sent" | "full" | "closed";
  close(): void;
}

export interface ConnectionOptions extends Omit<HandshakeOptions, "binding"> {
  readonly clock: Clock;
  /** Calls `run` about every `ms`; returns how to stop. By default with a timer. */
  readonly every?: ((ms: number, run: () => void) => () => void) | undefined;
  readonly handshakeMs?: number | undefined;
  readonly heartbeatMs?: number | undefined;
  readonly silenceMs?: number | undefined;
  /** This node's own figures, for heartbeat answers. */
  readonly load?: (() => LoadReport) | undefined;
  /** Called once when an opened connection has ended, whoever owns it. */
  readonly ended?: (() => void) | undefined;
}

function everyByTimer(ms: number, run: () => void): () => void {
  const timer = setInterval(run, ms);
  return () => clearInterval(timer);
}

/** Runs the handshake on a stream. Rejects with HandshakeError; the stream is then closed. */
export function openConnection(
  stream: ByteStream,
  options: ConnectionOptions,
): Promise<Connection> {
  return new Promise((resolve, reject) => {
    new FramedConnection(stream, { ...options, opened: resolve, failed: reject });
  });
}

interface Opening extends ConnectionOptions {
  readonly opened: (connection: Connection) => void;
  readonly failed: (error: HandshakeError) => void;
}

class FramedConnection implements Connection {
  readonly peerAddress: string;
  readonly #stream: ByteStream;
  readonly #options: Opening;
  readonly #decoder: FrameDecoder;
  readonly #handshake: Handshake;
  readonly #heartbeat: Heartbeat;
  readonly #openedBeforeMs: number;
  readonly #receiveWindow: ReceiveWindow;
  readonly #stopTimer: () => void;
  #agreement: Agreement | undefined;
  #sendWindow: SendWindow | undefined;
  #sealOut: FrameSeal | undefined;
  #sealIn: FrameSeal | undefined;
  #events: ConnectionEvents | undefined;
  /** Frames that came before `attach`: the window bounds them. */
  #early: ReceivedFrame[] = [];
  #earlyControlCount = 0;
  #wantsWritable = false;
  #peerLoad: LoadReport | undefined;
  #end: ConnectionEnd | undefined;

  constructor(stream: ByteStream, options: Opening) {
    const { clock } = options;
    this.#stream = stream;
    this.#options = options;
    this.peerAddress = stream.peer;
    this.#receiveWindow = new ReceiveWindow(options.windowBytes);
    this.#handshake = new Handshake({ ...options, binding: stream.binding });
    this.#decoder = new FrameDecoder(limits.clusterControlBytesMax, {
      admit: (header) => this.#admit(header),
      frame: (frame) => this.#take(frame),
    });
    const intervalMs = options.heartbeatMs ?? limits.clusterHeartbeatMs;
    const silenceMs = options.silenceMs ?? limits.clusterSilenceMs;
    const nowMs = clock.nowMs();
    this.#heartbeat = new Heartbeat({ intervalMs, silenceMs, nowMs });
    this.#openedBeforeMs = nowMs + (options.handshakeMs ?? limits.clusterHandshakeMs);
    this.#stopTimer = (options.every ?? everyByTimer)(intervalMs, () => this.#tick());
    stream.start({
      bytes: (chunk) => this.#receive(chunk),
      closed: (error) => this.#finish({ kind: error ? "failed" : "remote", error }),
    });
    this.#guard(() => this.#handshake.start().send.forEach((frame) => this.#write(frame)));
  }

  get peer(): NodeIdentity {
    assert(this.#agreement, "a connection without a handshake is not handed out");
    return this.#agreement.peer;
  }

  get frameBytesMax(): number {
    return this.#agreement?.frameBytesMax ?? limits.clusterControlBytesMax;
  }

  get roundTrip(): RoundTrip | undefined {
    return this.#heartbeat.roundTrip;
  }

  get peerLoad(): LoadReport | undefined {
    return this.#peerLoad;
  }

  get closed(): boolean {
    return this.#end !== undefined;
  }

  attach(events: ConnectionEvents): void {
    assert(this.#events === undefined, "a connection has one owner");
    this.#events = events;
    for (const frame of this.#early.splice(0)) this.#guard(() => this.#deliver(frame));
    if (this.#end !== undefined) events.closed(this.#end);
  }

  send(frame: OutgoingFrame): "sent" | "full" | "closed" {
    if (this.#end !== undefined) return "closed";
    assert(frameRules[frame.type].phase === "open", `${frame.type} frames are not for sending`);
    assert(
      frame.bytes.length <= this.frameBytesMax,
      `frame of ${frame.bytes.length} bytes exceeds the agreed ${this.frameBytesMax}`,
    );
    if (frameRules[frame.type].windowed && !this.#sendWindow!.take(frame.bytes.length)) {
      this.#wantsWritable = true;
      return "full";
    }
    this.#write(frame);
    return "sent";
  }

  close(): void {
    this.#finish({ kind: "local", error: undefined });
  }

  #write(frame: OutgoingFrame): void {
    if (this.#sealOut !== undefined) setSealedFlag(frame);
    writeChecksum(frame);
    this.#stream.write(this.#sealOut?.seal(frame) ?? frame.bytes);
  }

  /** Runs what the peer's bytes cause; its mistakes end the connection and nothing else. */
  #guard(run: () => void): void {
    if (this.#end !== undefined) return;
    try {
      run();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    const cause = error instanceof Error ? error : new Error(String(error));
    if (cause instanceof ProtocolError) this.#finish({ kind: "protocol", error: cause });
    else if (cause instanceof HandshakeError && cause.remote) {
      this.#finish({ kind: "refused", error: cause });
    } else this.#finish({ kind: "failed", error: cause });
  }

  #receive(chunk: Uint8Array): void {
    this.#heartbeat.heard(this.#options.clock.nowMs());
    this.#guard(() => this.#decoder.push(chunk));
  }

  #admit(header: FrameHeader): void {
    const rule = frameRules[header.type];
    const open = this.#agreement !== undefined;
    // A refusal may cross with our opening: it is the one handshake frame of an open connection.
    if ((rule.phase === "open") !== open && header.type !== "reject") {
      throw new ProtocolError("type", `${header.type} frame ${open ? "after" : "before"} opening`);
    }
    const sealed = (header.flags & FLAG_SEALED) !== 0;
    const mustSeal = this.#sealIn !== undefined && header.type !== "reject";
    if (sealed !== mustSeal) {
      throw new ProtocolError("seal", sealed ? "a code without keys" : "no authentication code");
    }
    if (rule.windowed) this.#receiveWindow.take(HEADER_BYTES + header.bodyBytes);
  }

  #take(frame: DecodedFrame): void {
    if (this.#end !== undefined) return;
    if (this.#agreement === undefined) return this.#stepHandshake(frame);
    if (frame.header.type === "reject") throw decodeReject(frame);
    this.#sealIn?.verify(frame.bytes);
    const { header, body } = frame;
    const receivedMs = this.#options.clock.nowMs();
    switch (header.type) {
      case "ping":
      case "pong":
      case "credit":
        return this.#takeControl(frame, receivedMs);
      default:
        return this.#deliver({ header, body, receivedMs });
    }
  }

  #takeControl(frame: DecodedFrame, nowMs: number): void {
    const message = decodeControl(frame);
    if (message.type === "ping") {
      const load = this.#options.load?.();
      this.#write(encodeControl({ type: "pong", sentMs: message.sentMs, load }));
      this.#checkBacklog();
    } else if (message.type === "pong") {
      this.#heartbeat.answered(message.sentMs, nowMs);
      this.#peerLoad = message.load ?? this.#peerLoad;
    } else if (message.type === "credit") {
      this.#sendWindow!.giveBack(message.bytes);
      if (!this.#wantsWritable) return;
      this.#wantsWritable = false;
      this.#events?.writable?.();
    }
  }

  #stepHandshake(frame: DecodedFrame): void {
    const { send, agreement } = this.#handshake.receive(frame);
    for (const next of send) this.#write(next);
    if (agreement === undefined) return;
    this.#agreement = agreement;
    this.#decoder.frameBytesMax = agreement.frameBytesMax;
    this.#sendWindow = new SendWindow(agreement.sendWindowBytes);
    if (agreement.keys !== undefined) {
      this.#sealOut = new FrameSeal(agreement.keys.send);
      this.#sealIn = new FrameSeal(agreement.keys.receive);
    }
    this.#options.opened(this);
  }

  #deliver(frame: ReceivedFrame): void {
    const { windowed } = frameRules[frame.header.type];
    if (this.#events === undefined) {
      // Nobody listens yet: windowed frames are bounded by the window, the others by this.
      if (!windowed && ++this.#earlyControlCount > limits.clusterHandshakesMax) {
        throw new ProtocolError("window", "too many frames before the connection is in use");
      }
      this.#early.push(frame);
      return;
    }
    const consumed = () => {
      if (windowed) this.#giveCredit(HEADER_BYTES + frame.header.bodyBytes);
    };
    const pending = this.#events.frame(frame);
    if (pending === undefined) consumed();
    else pending.then(consumed, (error) => this.#fail(error));
  }

  #giveCredit(bytes: number): void {
    this.#sendCredit(this.#receiveWindow.release(bytes));
  }

  #sendCredit(bytes: number): void {
    if (bytes > 0 && this.#end === undefined) this.#write(encodeControl({ type: "credit", bytes }));
  }

  #tick(): void {
    if (this.#end !== undefined) return;
    const nowMs = this.#options.clock.nowMs();
    if (this.#agreement === undefined) {
      if (nowMs <= this.#openedBeforeMs) return;
      const message = `Cannot connect to ${this.peerAddress}: no handshake in time`;
      return this.#fail(new HandshakeError("timeout", message));
    }
    const action = this.#heartbeat.tick(nowMs);
    if (action === "silent") {
      const error = new OperatingError("unavailable", `Lost ${this.peer.nodeId}: it is silent`);
      return this.#finish({ kind: "silent", error });
    }
    if (action === "ping") this.#write(encodeControl({ type: "ping", sentMs: nowMs }));
    this.#sendCredit(this.#receiveWindow.flush());
    this.#checkBacklog();
  }

  /**
   * Data is bounded by the peer's window: once what waits, and once what the stream has passed on
   * in one piece and still counts. A peer that does not read its control frames is stuck.
   */
  #checkBacklog(): void {
    const most = 2 * this.#agreement!.sendWindowBytes + limits.clusterBacklogBytesMax;
    if (this.#stream.backlogBytes <= most) return;
    const message = `Lost ${this.peer.nodeId}: it leaves ${this.#stream.backlogBytes} bytes unread`;
    this.#finish({ kind: "stuck", error: new OperatingError("unavailable", message) });
  }

  #finish(end: ConnectionEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    this.#stopTimer();
    if (this.#agreement !== undefined) {
      this.#stream.close();
      this.#options.ended?.();
      this.#events?.closed(end);
      return;
    }
    const error = handshakeErrorOf(end, this.peerAddress);
    const tell = !error.remote && error.failure !== "closed";
    if (tell) this.#write(encodeReject(error));
    this.#stream.close({ flush: tell });
    this.#options.failed(error);
  }
}

/** What the end of an unfinished handshake means to whoever waits for it. */
function handshakeErrorOf({ error }: ConnectionEnd, address: string): HandshakeError {
  if (error instanceof HandshakeError) return error;
  if (error instanceof ProtocolError) {
    const failure = error.violation === "version" ? "version" : "protocol";
    return new HandshakeError(failure, `Cannot connect to ${address}: ${error.message}`);
  }
  const reason = error?.message ?? "the stream ended";
  return new HandshakeError("closed", `Cannot connect to ${address}: ${reason}`);
}

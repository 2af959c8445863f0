/**
 * Messages that are neither calls nor results, as values and as frames: refusals, cancels,
 * heartbeats, credits, assignments, reports, members and drains. The handshake's are in `handshake.ts`.
 */
import { BodyReader, BodyWriter } from "./body_codec.ts";
import { createFrame, type Frame, type OutgoingFrame } from "./frame.ts";
import { ProtocolError } from "./protocol_error.ts";

/** Why a shard did not compute a call. The order is part of the format. */
export const refusalReasons = [
  "wrong_epoch", // the shard follows another placement; `epoch` is its own
  "unknown_expert", // it does not hold (layer, expert)
  "overloaded", // its queue is full: after `retryAfterMs`, or elsewhere
  "deadline_passed", // the caller's time was over before the turn came
  "bad_call", // readable, but no call for this model
  "shutting_down",
  "failed", // the computation itself failed
] as const;

export type RefusalReason = (typeof refusalReasons)[number];

export interface Refusal {
  readonly callId: number;
  readonly reason: RefusalReason;
  /** The placement that the shard follows. */
  readonly epoch: number;
  readonly retryAfterMs: number;
  readonly message: string;
}

/** A node's own figures, sent with every heartbeat answer. */
export interface LoadReport {
  /** Calls and rows that wait or compute. */
  readonly pendingCalls: number;
  readonly pendingRows: number;
  /** (row, expert) pairs per second while computing: the node's speed. */
  readonly pairsPerSecond: number;
  /** Share of the last seconds in which it computed, 0 to 1. */
  readonly busy: number;
  readonly memoryUsedBytes: number;
  readonly memoryMaxBytes: number;
  readonly draining: boolean;
}

/** Messages whose body is one long text; `assignment_text.ts` and `member_text.ts` write them. */
const textTypes = ["assign", "report", "member"] as const;

/**
 * assign: what a shard shall hold (front to shard); report: what it holds (shard to front); member:
 * who it is and what it offers (shard to front, when that changed).
 */
export type TextType = (typeof textTypes)[number];

export type ControlMessage =
  | { readonly type: "refusal"; readonly refusal: Refusal }
  | { readonly type: "cancel"; readonly callId: number }
  | { readonly type: "ping"; readonly sentMs: number }
  | { readonly type: "pong"; readonly sentMs: number; readonly load: LoadReport | undefined }
  | { readonly type: "credit"; readonly bytes: number }
  | { readonly type: TextType; readonly text: string }
  /** An operator's word, front to shard: give the experts away, or take some again. */
  | { readonly type: "drain"; readonly draining: boolean };

export function encodeControl(message: ControlMessage): OutgoingFrame {
  switch (message.type) {
    case "refusal":
      return encodeRefusal(message.refusal);
    case "cancel":
      return createFrame("cancel", 0, { callId: message.callId });
    case "ping":
      return new BodyWriter().f64(message.sentMs).frame("ping");
    case "pong":
      return encodePong(message.sentMs, message.load);
    case "credit":
      return new BodyWriter().u32(message.bytes).frame("credit");
    case "assign":
    case "report":
    case "member":
      return new BodyWriter().longText(message.text).frame(message.type);
    case "drain":
      return new BodyWriter().u8(message.draining ? 1 : 0).frame("drain");
  }
}

/** Throws ProtocolError for malformed bodies and for frames that are no control message. */
export function decodeControl(frame: Frame): ControlMessage {
  const { type, callId } = frame.header;
  const body = new BodyReader(frame.body);
  const message = readControl(frame, body);
  if (message === undefined) throw new ProtocolError("type", `a ${type} frame for call ${callId}`);
  body.end();
  return message;
}

function readControl({ header }: Frame, body: BodyReader): ControlMessage | undefined {
  switch (header.type) {
    case "refusal":
      return { type: "refusal", refusal: readRefusal(header, body) };
    case "cancel":
      return { type: "cancel", callId: header.callId };
    case "ping":
      return { type: "ping", sentMs: body.f64() };
    case "pong":
      return { type: "pong", sentMs: body.f64(), load: readLoad(body) };
    case "credit":
      return { type: "credit", bytes: body.u32() };
    case "assign":
    case "report":
    case "member":
      return { type: header.type, text: body.longText() };
    case "drain":
      return { type: "drain", draining: body.u8() !== 0 };
    default:
      return undefined;
  }
}

function encodeRefusal({ callId, epoch, reason, retryAfterMs, message }: Refusal): OutgoingFrame {
  return new BodyWriter()
    .u8(refusalReasons.indexOf(reason))
    .u32(Math.ceil(retryAfterMs))
    .text(message)
    .frame("refusal", { callId, epoch });
}

function readRefusal(header: Frame["header"], body: BodyReader): Refusal {
  return {
    callId: header.callId,
    epoch: header.epoch,
    reason: body.name(refusalReasons),
    retryAfterMs: body.u32(),
    message: body.text(),
  };
}

function encodePong(sentMs: number, load: LoadReport | undefined): OutgoingFrame {
  const body = new BodyWriter().f64(sentMs).u8(load === undefined ? 0 : 1);
  if (load !== undefined) {
    body.u32(load.pendingCalls).u32(load.pendingRows).f64(load.pairsPerSecond).f64(load.busy)
      .integer(load.memoryUsedBytes).integer(load.memoryMaxBytes).u8(load.draining ? 1 : 0);
  }
  return body.frame("pong");
}

function readLoad(body: BodyReader): LoadReport | undefined {
  if (body.u8() === 0) return undefined;
  return {
    pendingCalls: body.u32(),
    pendingRows: body.u32(),
    pairsPerSecond: body.f64(),
    busy: body.f64(),
    memoryUsedBytes: body.integer(),
    memoryMaxBytes: body.integer(),
    draining: body.u8() !== 0,
  };
}

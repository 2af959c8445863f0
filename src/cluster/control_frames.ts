/**
 * Messages that are neither calls nor results, as values and as frames: refusals, cancels,
 * heartbeats, credits, placement commands and leases. The handshake's are in `handshake.ts`.
 */
import { assert } from "@/assert.ts";
import { limits } from "@/limits.ts";
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

/** One expert of one layer. */
export interface ExpertId {
  readonly layer: number;
  readonly expert: number;
}

/** An order to hold or to forget experts. `epoch` is the placement that it prepares. */
export interface PlacementCommand {
  readonly commandId: number;
  readonly epoch: number;
  readonly experts: readonly ExpertId[];
}

const progressStates = ["running", "done", "failed"] as const;

/** How far a placement command is. */
export interface Progress {
  readonly commandId: number;
  readonly state: (typeof progressStates)[number];
  readonly doneCount: number;
  readonly totalCount: number;
  readonly loadedBytes: number;
  /** What failed; empty otherwise. */
  readonly message: string;
}

export const nodeStates = ["joining", "serving", "draining"] as const;

/** What a node says about itself when it joins and whenever that changes. */
export interface Lease {
  readonly nodeId: string;
  readonly state: (typeof nodeStates)[number];
  readonly epoch: number;
  /** Content hash of the checkpoint that the experts come from. */
  readonly weightHash: string;
  readonly numericClass: string;
  readonly pairsPerSecond: number;
  readonly memoryUsedBytes: number;
  readonly memoryMaxBytes: number;
  readonly experts: readonly ExpertId[];
}

export type ControlMessage =
  | { readonly type: "refusal"; readonly refusal: Refusal }
  | { readonly type: "cancel"; readonly callId: number }
  | { readonly type: "ping"; readonly sentMs: number }
  | { readonly type: "pong"; readonly sentMs: number; readonly load: LoadReport | undefined }
  | { readonly type: "credit"; readonly bytes: number }
  | { readonly type: "load_experts" | "drop_experts"; readonly command: PlacementCommand }
  | { readonly type: "progress"; readonly progress: Progress }
  | { readonly type: "lease"; readonly lease: Lease };

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
    case "load_experts":
    case "drop_experts":
      return encodeCommand(message.type, message.command);
    case "progress":
      return encodeProgress(message.progress);
    case "lease":
      return encodeLease(message.lease);
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
    case "load_experts":
    case "drop_experts":
      return { type: header.type, command: readCommand(header, body) };
    case "progress":
      return { type: "progress", progress: readProgress(header, body) };
    case "lease":
      return { type: "lease", lease: readLease(header, body) };
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

function writeExperts(body: BodyWriter, experts: readonly ExpertId[]): BodyWriter {
  const max = limits.clusterCommandExpertsMax;
  assert(experts.length <= max, `${experts.length} experts in one message exceed ${max}`);
  body.u32(experts.length);
  for (const { layer, expert } of experts) body.u16(layer).u16(expert);
  return body;
}

function readExperts(body: BodyReader): ExpertId[] {
  const count = body.u32();
  if (count > limits.clusterCommandExpertsMax || count * 4 > body.rest) {
    throw new ProtocolError("size", `${count} experts in ${body.rest} bytes`);
  }
  return Array.from({ length: count }, () => ({ layer: body.u16(), expert: body.u16() }));
}

function encodeCommand(
  type: "load_experts" | "drop_experts",
  { commandId, epoch, experts }: PlacementCommand,
): OutgoingFrame {
  return writeExperts(new BodyWriter(), experts).frame(type, { callId: commandId, epoch });
}

function readCommand(header: Frame["header"], body: BodyReader): PlacementCommand {
  return { commandId: header.callId, epoch: header.epoch, experts: readExperts(body) };
}

function encodeProgress(progress: Progress): OutgoingFrame {
  return new BodyWriter()
    .u8(progressStates.indexOf(progress.state))
    .u32(progress.doneCount)
    .u32(progress.totalCount)
    .integer(progress.loadedBytes)
    .text(progress.message)
    .frame("progress", { callId: progress.commandId });
}

function readProgress(header: Frame["header"], body: BodyReader): Progress {
  return {
    commandId: header.callId,
    state: body.name(progressStates),
    doneCount: body.u32(),
    totalCount: body.u32(),
    loadedBytes: body.integer(),
    message: body.text(),
  };
}

function encodeLease(lease: Lease): OutgoingFrame {
  const body = new BodyWriter()
    .text(lease.nodeId)
    .u8(nodeStates.indexOf(lease.state))
    .text(lease.weightHash)
    .text(lease.numericClass)
    .f64(lease.pairsPerSecond)
    .integer(lease.memoryUsedBytes)
    .integer(lease.memoryMaxBytes);
  return writeExperts(body, lease.experts).frame("lease", { epoch: lease.epoch });
}

function readLease(header: Frame["header"], body: BodyReader): Lease {
  return {
    epoch: header.epoch,
    nodeId: body.text(),
    state: body.name(nodeStates),
    weightHash: body.text(),
    numericClass: body.text(),
    pairsPerSecond: body.f64(),
    memoryUsedBytes: body.integer(),
    memoryMaxBytes: body.integer(),
    experts: readExperts(body),
  };
}

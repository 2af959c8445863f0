/**
 * Bodies of the hot path: expert calls and their results. Encoders write rows straight into the
 * frame that is sent; decoders check every count before they read.
 *
 * A reply holds one unweighted float32 row per (row, expert) pair, and the front adds them with the
 * same `combineRows` as a single process, in expert order: bit-equal without touching any kernel.
 * The alternative of one 64-bit fixed-point sum per row and node needs 16 KiB x nodes per token and
 * layer at width 2048 against 64 KiB for eight float32 rows: 0.5x with 2 nodes, 0.74x with 4 (2.94
 * nodes touched), 1.03x with 8; it would also slow down and re-round the local path. `sums` replies
 * (one float32 or bfloat16 weighted sum per row and node, 8 or 4 KiB) save more, and are not exact.
 */
import { assert } from "@/assert.ts";
import { limits } from "@/limits.ts";
import {
  createFrame,
  FLAG_SUMS,
  type Frame,
  type FrameHeader,
  HEADER_BYTES,
  type OutgoingFrame,
} from "./frame.ts";
import { ProtocolError } from "./protocol_error.ts";
import {
  decodeRows,
  type EncodedRows,
  encodeRows,
  type RowEncoding,
  type RowEncodingName,
  rowEncodingOfCode,
  rowEncodings,
} from "./row_encoding.ts";

/** One row per (row, expert) pair, or one weighted sum per row. */
export type ReplyForm = "pairs" | "sums";
export type ReplyEncodingName = "f32" | "bf16";

interface CallFields {
  readonly callId: number;
  readonly epoch: number;
  /** Engine step, for traces. */
  readonly step: number;
  readonly layer: number;
  readonly width: number;
  readonly reply: ReplyForm;
  readonly replyEncoding: ReplyEncodingName;
  /** How long the caller still waits. Durations travel, not clock readings of another machine. */
  readonly timeLeftMs: number;
  /** Experts wanted per row [rows], each at least 1. */
  readonly choiceCounts: Uint16Array;
  /** Expert ids [pairs], row by row, ascending inside a row. */
  readonly experts: Uint16Array;
  /** Gate weights [pairs]; empty with "pairs" replies. */
  readonly weights: Float32Array;
}

/** A call to be sent: row i of the call is row `rowIndex[i]` of `source` [any, width]. */
export interface ExpertCall extends CallFields {
  readonly encoding: RowEncodingName;
  readonly source: Float32Array;
  readonly rowIndex: ArrayLike<number>;
  /** The same source, for rows that go to several nodes. */
  readonly encoded?: EncodedRows | undefined;
}

/** A call as received. */
export interface ReceivedCall extends CallFields {
  /** Decoded rows [rows, width]. */
  readonly rows: Float32Array<ArrayBuffer>;
}

/** Answer to a call: `values` is [pairs, width] or [rows, width], by `reply`. */
export interface ExpertResult {
  readonly callId: number;
  readonly epoch: number;
  readonly step: number;
  readonly layer: number;
  readonly rowCount: number;
  readonly pairCount: number;
  readonly width: number;
  readonly reply: ReplyForm;
  readonly values: Float32Array;
  /** Time in the shard's queue and in its kernels. */
  readonly queueMicros: number;
  readonly computeMicros: number;
}

/** timeLeftMs u32, reply encoding u32. */
const CALL_PRELUDE_BYTES = 8;
/** queueMicros u32, computeMicros u32. */
const RESULT_PRELUDE_BYTES = 8;
const WORD_MAX = 0xffff_ffff;

/** Where the parts of a call's body are: prelude, counts u16, experts u16, weights f32, rows. */
function callLayout(
  shape: { rows: number; pairs: number; width: number; encoding: RowEncoding; reply: ReplyForm },
): { experts: number; weights: number; rows: number; end: number } {
  const { rows, pairs, width, encoding, reply } = shape;
  const experts = CALL_PRELUDE_BYTES + 2 * rows;
  const weights = Math.ceil((experts + 2 * pairs) / 4) * 4;
  const firstRow = weights + (reply === "sums" ? 4 * pairs : 0);
  return { experts, weights, rows: firstRow, end: firstRow + rows * encoding.rowBytes(width) };
}

/** Frame bytes of a call and of its result: both must stay within the agreed frame size. */
export function frameBytesOfCall(
  shape: {
    rows: number;
    pairs: number;
    width: number;
    encoding: RowEncodingName;
    reply: ReplyForm;
    replyEncoding: ReplyEncodingName;
  },
): { call: number; result: number } {
  const { rows, pairs, width, reply } = shape;
  const { end } = callLayout({ ...shape, encoding: rowEncodings[shape.encoding] });
  const replyRows = reply === "sums" ? rows : pairs;
  const values = replyRows * rowEncodings[shape.replyEncoding].rowBytes(width);
  return { call: HEADER_BYTES + end, result: HEADER_BYTES + RESULT_PRELUDE_BYTES + values };
}

/** Rows that one call may carry when each has at most `choices` experts. At least 1. */
export function rowsPerCall(
  shape: {
    choices: number;
    width: number;
    encoding: RowEncodingName;
    reply: ReplyForm;
    replyEncoding: ReplyEncodingName;
    frameBytesMax: number;
  },
): number {
  const { choices, frameBytesMax } = shape;
  const one = frameBytesOfCall({ ...shape, rows: 1, pairs: choices });
  const perRow = Math.max(one.call, one.result); // an upper bound: counts the header for each row
  const bounds = [limits.clusterCallRowsMax, Math.floor(limits.clusterCallPairsMax / choices)];
  return Math.max(1, Math.min(Math.floor(frameBytesMax / perRow), ...bounds));
}

export function encodeCall(call: ExpertCall): OutgoingFrame {
  const encoding = rowEncodings[call.encoding];
  const [rows, pairs] = [call.choiceCounts.length, call.experts.length];
  assert(rows === call.rowIndex.length, `${rows} counts for ${call.rowIndex.length} rows`);
  assert(call.weights.length === (call.reply === "sums" ? pairs : 0), "weights only for sums");
  const layout = callLayout({ rows, pairs, width: call.width, encoding, reply: call.reply });
  const { callId, epoch, step, layer, width } = call;
  const flags = call.reply === "sums" ? FLAG_SUMS : 0;
  const fields = { callId, epoch, step, layer, width, rows, pairs, flags, encoding: encoding.code };
  const frame = createFrame("call", layout.end, fields);
  const { buffer, byteOffset } = frame.body;
  const timeLeft = Math.max(0, Math.min(WORD_MAX, Math.ceil(call.timeLeftMs)));
  new Uint32Array(buffer, byteOffset, 2).set([timeLeft, rowEncodings[call.replyEncoding].code]);
  new Uint16Array(buffer, byteOffset + CALL_PRELUDE_BYTES, rows).set(call.choiceCounts);
  new Uint16Array(buffer, byteOffset + layout.experts, pairs).set(call.experts);
  if (call.reply === "sums") {
    new Float32Array(buffer, byteOffset + layout.weights, pairs).set(call.weights);
  }
  const out = frame.body.subarray(layout.rows, layout.end);
  const { source, rowIndex, encoded } = call;
  if (encoded) encoded.write(rowIndex, out);
  else encodeRows(encoding, { source, rowIndex, width, out });
  return frame;
}

function requireBody(condition: boolean, message: () => string): asserts condition {
  if (!condition) throw new ProtocolError("body", message());
}

function replyOf(header: FrameHeader): ReplyForm {
  return header.flags & FLAG_SUMS ? "sums" : "pairs";
}

function encodingOf(code: number): RowEncoding {
  const encoding = rowEncodingOfCode(code);
  requireBody(encoding !== undefined, () => `unknown row encoding ${code}`);
  return encoding;
}

/**
 * Throws ProtocolError when lengths, counts and ids contradict each other, or when the result would
 * not fit a frame of `frameBytesMax` (as agreed on the connection).
 */
export function decodeCall(
  { header, body }: Frame,
  frameBytesMax: number = limits.clusterFrameBytesMax,
): ReceivedCall {
  const { rows, pairs, width, callId, epoch, step, layer } = header;
  const encoding = encodingOf(header.encoding);
  const reply = replyOf(header);
  requireBody(rows > 0 && width > 0, () => `${rows} rows of ${width}`);
  const layout = callLayout({ rows, pairs, width, encoding, reply });
  requireBody(body.length === layout.end, () => `${body.length} bytes, not ${layout.end}`);
  const { buffer, byteOffset } = body;
  const [timeLeftMs, replyCode] = new Uint32Array(buffer, byteOffset, 2) as unknown as number[];
  const replyEncoding = encodingOf(replyCode!);
  requireBody(replyEncoding.forResults, () => `results cannot be ${replyEncoding.name}`);
  const choiceCounts = new Uint16Array(buffer, byteOffset + CALL_PRELUDE_BYTES, rows);
  const experts = new Uint16Array(buffer, byteOffset + layout.experts, pairs);
  checkChoices(choiceCounts, experts);
  const result = HEADER_BYTES + RESULT_PRELUDE_BYTES +
    (reply === "sums" ? rows : pairs) * replyEncoding.rowBytes(width);
  requireBody(
    result <= frameBytesMax,
    () => `its result of ${result} bytes exceeds ${frameBytesMax}`,
  );
  return {
    callId,
    epoch,
    step,
    layer,
    width,
    reply,
    replyEncoding: replyEncoding.name as ReplyEncodingName,
    timeLeftMs: timeLeftMs!,
    choiceCounts,
    experts,
    weights: new Float32Array(buffer, byteOffset + layout.weights, reply === "sums" ? pairs : 0),
    rows: decodeRows(encoding, body.subarray(layout.rows), { rowCount: rows, width }),
  };
}

/** Every row names 1 to `expertChoicesMax` experts, each once, and the rows use up all pairs. */
function checkChoices(choiceCounts: Uint16Array, experts: Uint16Array): void {
  let pair = 0;
  for (const [row, count] of choiceCounts.entries()) {
    const most = Math.min(limits.expertChoicesMax, experts.length - pair);
    requireBody(count >= 1 && count <= most, () => `row ${row} names ${count} experts of ${most}`);
    for (let i = 1; i < count; i++) {
      const [left, right] = [experts[pair + i - 1]!, experts[pair + i]!];
      requireBody(left < right, () => `row ${row} names expert ${right} after ${left}`);
    }
    pair += count;
  }
  requireBody(pair === experts.length, () => `${experts.length} pairs, rows name ${pair}`);
}

/** A result but for its values and times. */
export type ResultShape =
  & Omit<ExpertResult, "values" | "queueMicros" | "computeMicros">
  & { readonly replyEncoding: ReplyEncodingName };

/** A result's frame before it is complete. */
export interface ResultDraft {
  /** To be filled in, zero before: in float32 they lie in the frame itself. */
  readonly values: Float32Array<ArrayBuffer>;
  /** The frame to be sent. Once. */
  finish(times: { readonly queueMicros: number; readonly computeMicros: number }): OutgoingFrame;
}

export function draftResult(result: ResultShape): ResultDraft {
  const encoding = rowEncodings[result.replyEncoding];
  const { callId, epoch, step, layer, width, rowCount, pairCount, reply } = result;
  const count = reply === "sums" ? rowCount : pairCount;
  const bodyBytes = RESULT_PRELUDE_BYTES + count * encoding.rowBytes(width);
  const fields = { callId, epoch, step, layer, width, rows: rowCount, pairs: pairCount };
  const flags = reply === "sums" ? FLAG_SUMS : 0;
  const frame = createFrame("result", bodyBytes, { ...fields, flags, encoding: encoding.code });
  const out = frame.body.subarray(RESULT_PRELUDE_BYTES);
  const isInPlace = encoding.name === "f32";
  const values = isInPlace
    ? new Float32Array(out.buffer, out.byteOffset, count * width)
    : new Float32Array(count * width);
  return {
    values,
    finish({ queueMicros, computeMicros }) {
      const times = new Uint32Array(frame.body.buffer, frame.body.byteOffset, 2);
      times[0] = Math.min(WORD_MAX, Math.round(queueMicros));
      times[1] = Math.min(WORD_MAX, Math.round(computeMicros));
      if (!isInPlace) {
        encodeRows(encoding, { source: values, rowIndex: rowNumbers(count), width, out });
      }
      return frame;
    },
  };
}

export function encodeResult(
  result: ExpertResult & { readonly replyEncoding: ReplyEncodingName },
): OutgoingFrame {
  const { values } = result;
  const draft = draftResult(result);
  assert(
    values.length === draft.values.length,
    `${values.length} of ${draft.values.length} values`,
  );
  draft.values.set(values);
  return draft.finish(result);
}

function rowNumbers(count: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, i) => i);
}

/** Throws ProtocolError when the values do not have the stated shape. */
export function decodeResult({ header, body }: Frame): ExpertResult {
  const { rows, pairs, width, callId, epoch, step, layer } = header;
  const encoding = encodingOf(header.encoding);
  requireBody(encoding.forResults, () => `results cannot be ${encoding.name}`);
  const reply = replyOf(header);
  const rowCount = reply === "sums" ? rows : pairs;
  const length = RESULT_PRELUDE_BYTES + rowCount * encoding.rowBytes(width);
  requireBody(rows > 0 && width > 0, () => `${rows} rows of ${width}`);
  requireBody(body.length === length, () => `${body.length} bytes, not ${length}`);
  const [queueMicros, computeMicros] = new Uint32Array(body.buffer, body.byteOffset, 2);
  return {
    callId,
    epoch,
    step,
    layer,
    rowCount: rows,
    pairCount: pairs,
    width,
    reply,
    values: decodeRows(encoding, body.subarray(RESULT_PRELUDE_BYTES), { rowCount, width }),
    queueMicros: queueMicros!,
    computeMicros: computeMicros!,
  };
}

/** Whether a result has the shape that the call asked for; its values may then be used. */
export function answers(result: ExpertResult, call: CallFields): boolean {
  return result.callId === call.callId && result.layer === call.layer &&
    result.epoch === call.epoch && result.reply === call.reply && result.width === call.width &&
    result.rowCount === call.choiceCounts.length && result.pairCount === call.experts.length;
}

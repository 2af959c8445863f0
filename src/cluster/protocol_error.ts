/** What a peer can do wrong on a data socket. Each of these errors closes its connection. */
import { OperatingError } from "@/errors.ts";

/** Closed list of violations of the frame format or the rules of a connection. */
export type ProtocolViolation =
  | "magic" // these are not our frames
  | "version"
  | "type" // unknown, or not allowed in this state or direction
  | "flags"
  | "size" // a length or count above its bound
  | "checksum"
  | "seal" // missing or wrong authentication code: forged, replayed, lost or reordered
  | "body" // counts, lengths and values that contradict each other
  | "window"; // more unconsumed bytes than were granted

/** A frame that cannot be accepted. Nothing of it, and nothing after it, is used. */
export class ProtocolError extends OperatingError {
  readonly violation: ProtocolViolation;

  constructor(violation: ProtocolViolation, message: string) {
    super("unavailable", `Cannot read cluster frame: ${message}`);
    this.name = "ProtocolError";
    this.violation = violation;
  }
}

/** Why two nodes do not connect. The codes travel in `reject` frames. */
export const handshakeFailures = [
  "version", // no common protocol version
  "unauthorized", // no or a wrong proof of the cluster secret
  "cluster", // another cluster's name
  "model", // other weights
  "class", // another numeric class: results would differ in bits
  "role", // two fronts, two shards, or a node that dialled itself
  "busy", // too many connections
  "draining", // the node is leaving
  "timeout",
  "closed", // the socket ended before the handshake did
  "protocol", // a malformed or unexpected frame
] as const;

export type HandshakeFailure = (typeof handshakeFailures)[number];

/** A connection that did not come about. `remote` is true when the peer refused us. */
export class HandshakeError extends OperatingError {
  readonly failure: HandshakeFailure;
  readonly remote: boolean;

  constructor(failure: HandshakeFailure, message: string, options: { remote?: boolean } = {}) {
    super(failure === "unauthorized" ? "unauthorized" : "unavailable", message);
    this.name = "HandshakeError";
    this.failure = failure;
    this.remote = options.remote ?? false;
  }
}

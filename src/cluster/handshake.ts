/**
 * How two nodes get to know each other before the first call, as a synchronous state machine:
 *
 *     dialer   -> hello
 *     listener -> hello [proof]        proofs only when a secret is configured
 *     dialer   -> [proof]
 *     listener -> accept               or either side: reject (reason), then close
 *
 * Threat model. With a secret: both sides prove that they know it (HMAC over fresh nonces of both,
 * both hellos whole, and the TLS certificate if there is one), so a recording cannot be replayed, a
 * proof cannot be reflected, and nobody can stay in the middle or lower what was agreed; after that
 * every frame carries an authentication code under keys of this connection and direction. Without
 * TLS the contents (hidden states, from which prompts can be guessed) are readable on the wire, and
 * past recordings stay authentic if the secret leaks. All holders of the secret are trusted: one can
 * pose as another and compute wrong results. With mutual TLS certificates do the same, and hide the
 * contents. With neither, anyone who reaches the port can use it: `transport.ts` refuses that off
 * loopback unless told. Before it is proven, a peer can make us hold one small frame and a timer.
 */
import { createHash } from "node:crypto";
import { assert } from "@/assert.ts";
import { limits } from "@/limits.ts";
import { BodyReader, BodyWriter } from "./body_codec.ts";
import type { ClusterSecret, Side } from "./cluster_secret.ts";
import { createFrame, type OutgoingFrame, writeChecksum } from "./frame.ts";
import type { DecodedFrame } from "./frame_decoder.ts";
import { HandshakeError, type HandshakeFailure, handshakeFailures } from "./protocol_error.ts";

export const nodeRoles = ["front", "shard", "operator"] as const;
export type NodeRole = (typeof nodeRoles)[number];

/** Who a node says it is. */
export interface NodeIdentity {
  readonly nodeId: string;
  /** Name of the cluster; nodes of different clusters do not connect. */
  readonly cluster: string;
  readonly role: NodeRole;
  /** Results are bit-equal inside one class; empty: not known yet, or no matter; fits all. */
  readonly numericClass: string;
  /** Content hash of the checkpoint; empty: not known yet, fits all. */
  readonly weightHash: string;
}

export interface HandshakeOptions {
  readonly side: Side;
  readonly identity: NodeIdentity;
  readonly secret?: ClusterSecret | undefined;
  /** 32 fresh random bytes. */
  readonly nonce: Uint8Array;
  /** See `ByteStream.binding`. */
  readonly binding: Uint8Array;
  /** What this side accepts: its largest frame and its window. */
  readonly frameBytesMax: number;
  readonly windowBytes: number;
  /** Accept peers of another numeric class: equal tokens are then not promised. */
  readonly mixedClasses?: boolean | undefined;
  /** A last word on the peer, e.g. "busy" or "draining". */
  readonly admit?: ((peer: NodeIdentity) => HandshakeFailure | undefined) | undefined;
}

/** What both sides know afterwards. */
export interface Agreement {
  readonly peer: NodeIdentity;
  /** The smaller of both sides' bounds. */
  readonly frameBytesMax: number;
  /** Bytes that may be under way to the peer without its credit. */
  readonly sendWindowBytes: number;
  /** Keys of both directions, when there is a secret. */
  readonly keys: { readonly send: Uint8Array; readonly receive: Uint8Array } | undefined;
}

export interface HandshakeStep {
  readonly send: readonly OutgoingFrame[];
  readonly agreement?: Agreement;
}

interface Hello {
  readonly identity: NodeIdentity;
  readonly side: Side;
  readonly keyed: boolean;
  readonly nonce: Uint8Array;
  readonly frameBytesMax: number;
  readonly windowBytes: number;
}

const NONCE_BYTES = 32;
const PROOF_BYTES = 32;
const sides = ["dialer", "listener"] as const;

export class Handshake {
  readonly #options: HandshakeOptions;
  readonly #hello: OutgoingFrame;
  #peer: Hello | undefined;
  #transcript: Uint8Array = new Uint8Array();
  /** The dialer has checked the listener's proof. */
  #proven = false;

  constructor(options: HandshakeOptions) {
    assert(options.nonce.length === NONCE_BYTES, `${options.nonce.length} nonce bytes`);
    this.#options = options;
    this.#hello = encodeHello(options);
  }

  /** Frames to begin with. */
  start(): HandshakeStep {
    return { send: this.#options.side === "dialer" ? [this.#hello] : [] };
  }

  /** Takes a frame. Throws HandshakeError; ProtocolError when the frame is malformed. */
  receive(frame: DecodedFrame): HandshakeStep {
    const { type } = frame.header;
    if (type === "reject") throw decodeReject(frame);
    if (type === "hello" && this.#peer === undefined) return this.#takeHello(frame);
    if (type === "proof" && this.#peer?.keyed && !this.#proven) return this.#takeProof(frame);
    if (type === "accept" && this.#mayBeAccepted()) return { send: [], agreement: this.#agree() };
    throw new HandshakeError("protocol", `Cannot connect: unexpected ${type} frame`);
  }

  #mayBeAccepted(): boolean {
    const { side, secret } = this.#options;
    return side === "dialer" && this.#peer !== undefined &&
      (secret === undefined || this.#proven);
  }

  #takeHello(frame: DecodedFrame): HandshakeStep {
    const { side, secret, binding } = this.#options;
    const peer = decodeHello(frame);
    this.#peer = peer;
    checkPeer(peer, this.#options);
    const hellos = side === "dialer"
      ? [this.#hello.bytes, frame.bytes]
      : [frame.bytes, this.#hello.bytes];
    const hash = createHash("sha256").update(new Uint8Array([binding.length])).update(binding);
    for (const hello of hellos) hash.update(hello);
    this.#transcript = hash.digest();
    if (side === "dialer") return { send: [] };
    if (secret === undefined) {
      return { send: [this.#hello, createFrame("accept", 0)], agreement: this.#agree() };
    }
    return { send: [this.#hello, this.#proof(secret)] };
  }

  #takeProof(frame: DecodedFrame): HandshakeStep {
    const { side, secret } = this.#options;
    assert(secret !== undefined, "a keyed peer was accepted without a secret");
    const theirs: Side = side === "dialer" ? "listener" : "dialer";
    const proof = new BodyReader(frame.body).bytes(Math.min(PROOF_BYTES, frame.body.length));
    if (!secret.verifies(proof, theirs, this.#transcript)) {
      const message = "Cannot connect: the peer's cluster secret is another one";
      throw new HandshakeError("unauthorized", message);
    }
    this.#proven = true;
    if (side === "dialer") return { send: [this.#proof(secret)] };
    return { send: [createFrame("accept", 0)], agreement: this.#agree() };
  }

  #proof(secret: ClusterSecret): OutgoingFrame {
    const proof = secret.proof(this.#options.side, this.#transcript);
    return new BodyWriter().bytes(proof).frame("proof");
  }

  #agree(): Agreement {
    const { side, secret, frameBytesMax, windowBytes } = this.#options;
    const peer = this.#peer!;
    const theirs: Side = side === "dialer" ? "listener" : "dialer";
    const keys = secret && {
      send: secret.frameKey(side, this.#transcript),
      receive: secret.frameKey(theirs, this.#transcript),
    };
    return {
      peer: peer.identity,
      // Two frames fit each window: credits are returned by quarters of it and cannot deadlock.
      frameBytesMax: Math.min(
        frameBytesMax,
        peer.frameBytesMax,
        Math.floor(windowBytes / 2),
        Math.floor(peer.windowBytes / 2),
      ),
      sendWindowBytes: peer.windowBytes,
      keys,
    };
  }
}

function encodeHello(options: HandshakeOptions): OutgoingFrame {
  const { identity, side, secret, nonce, frameBytesMax, windowBytes } = options;
  const frame = new BodyWriter()
    .u8(sides.indexOf(side))
    .u8(nodeRoles.indexOf(identity.role))
    .u8(secret === undefined ? 0 : 1)
    .bytes(nonce)
    .u32(frameBytesMax)
    .u32(windowBytes)
    .text(identity.nodeId)
    .text(identity.cluster)
    .text(identity.numericClass)
    .text(identity.weightHash)
    .frame("hello");
  // The transcript holds the bytes as sent.
  writeChecksum(frame);
  return frame;
}

/** Later versions may add fields at the end: what follows is not read. */
function decodeHello(frame: DecodedFrame): Hello {
  const body = new BodyReader(frame.body);
  const side = body.name(sides);
  const role = body.name(nodeRoles);
  const keyed = body.u8() !== 0;
  const nonce = body.bytes(NONCE_BYTES);
  const frameBytesMax = body.u32();
  const windowBytes = body.u32();
  const [nodeId, cluster] = [body.text(), body.text()];
  const [numericClass, weightHash] = [body.text(), body.text()];
  const identity = { nodeId, cluster, role, numericClass, weightHash };
  return { identity, side, keyed, nonce, frameBytesMax, windowBytes };
}

/** Throws HandshakeError with the first reason not to connect. */
function checkPeer(peer: Hello, options: HandshakeOptions): void {
  const { identity: ours, nonce, secret } = options;
  const theirs = peer.identity;
  const differ = (left: string, right: string) => left !== "" && right !== "" && left !== right;
  const rules: readonly [HandshakeFailure, boolean, string][] = [
    [
      "role",
      theirs.nodeId === ours.nodeId || sameBytes(peer.nonce, nonce),
      "it is this node",
    ],
    ["protocol", peer.side === options.side, `both sides are the ${peer.side}`],
    [
      "unauthorized",
      peer.keyed !== (secret !== undefined),
      peer.keyed ? "it asks for a cluster secret" : "it has no cluster secret",
    ],
    ["cluster", theirs.cluster !== ours.cluster, `it belongs to cluster "${theirs.cluster}"`],
    ["role", theirs.role === ours.role, `both are a ${ours.role}`],
    [
      "model",
      differ(theirs.weightHash, ours.weightHash),
      `its weights are ${theirs.weightHash}, not ${ours.weightHash}`,
    ],
    [
      "class",
      options.mixedClasses !== true && differ(theirs.numericClass, ours.numericClass),
      `its numeric class is ${theirs.numericClass}, not ${ours.numericClass}; a server with ` +
      "--mixed-classes takes both, without the promise of equal tokens",
    ],
    [
      "protocol",
      Math.min(peer.frameBytesMax, peer.windowBytes / 2) < limits.clusterControlBytesMax,
      `frames of ${peer.frameBytesMax} in a window of ${peer.windowBytes} are too small`,
    ],
  ];
  for (const [failure, applies, message] of rules) {
    if (applies) {
      throw new HandshakeError(failure, `Cannot connect to ${theirs.nodeId}: ${message}`);
    }
  }
  const refused = options.admit?.(theirs);
  if (refused) throw new HandshakeError(refused, `Cannot connect to ${theirs.nodeId}: ${refused}`);
}

/** Nonces are public: no need for constant time. */
function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, i) => byte === right[i]);
}

/** Tells the peer why, before the stream is closed. */
export function encodeReject(error: HandshakeError): OutgoingFrame {
  return new BodyWriter()
    .u8(handshakeFailures.indexOf(error.failure))
    .text(error.message)
    .frame("reject");
}

/** The refusal as an error of this side. */
export function decodeReject(frame: DecodedFrame): HandshakeError {
  const body = new BodyReader(frame.body);
  const failure = body.name(handshakeFailures);
  return new HandshakeError(failure, `Refused by the peer: ${body.text()}`, { remote: true });
}

/** One table of cases for every kind of stream, with the real clock and real sockets. */
import assert from "node:assert/strict";
import { systemClock } from "@/clock.ts";
import { identityOf, SECRET_TEXT } from "./_peers.ts";
import type { ByteStream, StreamListener } from "./byte_stream.ts";
import { ClusterSecret } from "./cluster_secret.ts";
import type { Connection, ConnectionEnd, ReceivedFrame } from "./connection.ts";
import { createFrame, HEADER_BYTES, type OutgoingFrame, writeChecksum } from "./frame.ts";
import { MemoryNetwork } from "./memory_stream.ts";
import { HandshakeError, ProtocolError } from "./protocol_error.ts";
import { dialSocket, type TlsFiles } from "./socket_stream.ts";
import { ClusterTransport, type TransportOptions } from "./transport.ts";
import { dialWebSocket } from "./websocket_stream.ts";

function pem(name: string): TlsFiles {
  const read = (file: string) =>
    Deno.readTextFileSync(new URL(`../../tests/fixtures/cluster/${file}.pem`, import.meta.url));
  const key = Deno.readTextFileSync(
    new URL(`../../tests/fixtures/cluster/${name}.key`, import.meta.url),
  );
  return { certificate: read(name), key, authority: read("authority") };
}

interface Place {
  readonly address: string;
  readonly front: Partial<TransportOptions>;
  readonly shard: Partial<TransportOptions>;
  /** A stream to the bound address that knows no protocol. */
  rawDial(bound: string): Promise<ByteStream>;
}

interface TransportKind {
  readonly name: string;
  place(folder: string): Place;
}

const secret = ClusterSecret.fromText(SECRET_TEXT);

function target(bound: string): { host: string; port: number } {
  return { host: "127.0.0.1", port: Number(bound.split(":").at(-1)) };
}

const kinds: readonly TransportKind[] = [
  {
    name: "memory",
    place() {
      const memory = new MemoryNetwork();
      const both = { memory };
      const rawDial = (bound: string) => Promise.resolve(memory.dial(bound));
      return { address: "memory:a", front: both, shard: both, rawDial };
    },
  },
  {
    name: "tcp",
    place: () => ({
      address: "127.0.0.1:0",
      front: {},
      shard: {},
      rawDial: (bound) => dialSocket(target(bound)),
    }),
  },
  {
    name: "tcp with secret",
    place: () => ({
      address: "127.0.0.1:0",
      front: { secret },
      shard: { secret },
      rawDial: (bound) => dialSocket(target(bound)),
    }),
  },
  {
    name: "unix",
    place: (folder) => ({
      address: `unix:${folder}/socket`,
      front: {},
      shard: {},
      rawDial: (bound) => dialSocket({ path: bound.slice("unix:".length) }),
    }),
  },
  {
    name: "tls",
    place: () => ({
      address: "127.0.0.1:0",
      front: { tls: pem("client") },
      shard: { tls: pem("server") },
      rawDial: (bound) => dialSocket(target(bound), pem("client")),
    }),
  },
  {
    name: "tls with secret",
    place: () => ({
      address: "127.0.0.1:0",
      front: { tls: pem("client"), secret },
      shard: { tls: pem("server"), secret },
      rawDial: (bound) => dialSocket(target(bound), pem("client")),
    }),
  },
  {
    name: "websocket",
    place: () => ({
      address: "ws://127.0.0.1:0/",
      front: {},
      shard: {},
      rawDial: (bound) => dialWebSocket(new URL(bound)),
    }),
  },
];

interface Rig {
  readonly front: ClusterTransport;
  readonly listener: StreamListener;
  readonly refused: HandshakeError[];
  /** The next connection that the shard accepts. */
  accepted(): Promise<Connection>;
  rawDial(): Promise<ByteStream>;
}

const FRAME_BYTES_MAX = 4 << 20;

async function withRig(
  kind: TransportKind,
  run: (rig: Rig) => Promise<void>,
  options: Partial<TransportOptions> = {},
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const place = kind.place(folder);
  const shared = { clock: systemClock, frameBytesMax: FRAME_BYTES_MAX, windowBytes: 8 << 20 };
  const all = { ...shared, silenceMs: 20_000, heartbeatMs: 50, ...options };
  const front = new ClusterTransport({
    ...all,
    identity: () => identityOf("front"),
    ...place.front,
  });
  const shard = new ClusterTransport({
    ...all,
    identity: () => identityOf("shard"),
    ...place.shard,
  });
  const waiting: ((connection: Connection) => void)[] = [];
  const arrived: Connection[] = [];
  const open: Connection[] = [];
  const refused: HandshakeError[] = [];
  const listener = await shard.listen(place.address, {
    accept: (connection) => {
      open.push(connection);
      const next = waiting.shift();
      if (next) next(connection);
      else arrived.push(connection);
    },
    refused: (error) => refused.push(error),
  });
  try {
    await run({
      front,
      listener,
      refused,
      accepted: () => {
        const first = arrived.shift();
        return first ? Promise.resolve(first) : new Promise((resolve) => waiting.push(resolve));
      },
      rawDial: () => place.rawDial(listener.address),
    });
  } finally {
    for (const connection of open) connection.close();
    await listener.close();
    await Deno.remove(folder, { recursive: true });
  }
}

function call(callId: number, bodyBytes: number): OutgoingFrame {
  const frame = createFrame("call", bodyBytes, { callId });
  for (let i = 0; i < bodyBytes; i += 997) frame.body[i] = (callId + i) & 255;
  return frame;
}

function assertIntact({ header, body }: ReceivedFrame): void {
  for (let i = 0; i < body.length; i += 997) assert.equal(body[i], (header.callId + i) & 255);
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const endMs = performance.now() + 15_000;
  while (!condition()) {
    assert.ok(performance.now() < endMs, `waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Sends one frame after the other, waiting for credit. */
function pump(connection: Connection, frames: Iterator<OutgoingFrame>): () => void {
  let next = frames.next();
  return () => {
    while (!next.done && connection.send(next.value) === "sent") next = frames.next();
  };
}

function* calls(count: number, bodyBytes: (i: number) => number): Generator<OutgoingFrame> {
  for (let i = 0; i < count; i++) yield call(i, bodyBytes(i));
}

async function pair(rig: Rig): Promise<{ near: Connection; far: Connection }> {
  const [near, far] = await Promise.all([rig.front.dial(rig.listener.address), rig.accepted()]);
  return { near, far };
}

type Case = (rig: Rig) => Promise<void>;

async function carriesInOrder(rig: Rig, plan: { count: number; bytes: (i: number) => number }) {
  const { near, far } = await pair(rig);
  const got = { near: 0, far: 0 };
  const ends: ConnectionEnd[] = [];
  const both: [Connection, "near" | "far"][] = [[near, "near"], [far, "far"]];
  for (const [connection, name] of both) {
    const more = pump(connection, calls(plan.count, plan.bytes));
    connection.attach({
      frame: (frame) => {
        assert.equal(frame.header.callId, got[name]++);
        assert.equal(frame.body.length, plan.bytes(frame.header.callId));
        assertIntact(frame);
      },
      writable: more,
      closed: (end) => ends.push(end),
    });
    more();
  }
  await until(() => got.near + got.far === 2 * plan.count || ends.length > 0, "all arrived");
  assert.deepEqual([got.near, got.far], [plan.count, plan.count], String(ends[0]?.error));
  near.close();
}

const cases: Readonly<Record<string, Case>> = {
  "carries 1000 small frames both ways in order": (rig) =>
    carriesInOrder(rig, { count: 1000, bytes: (i) => i % 200 }),

  "carries frames around the sizes where streams cut": (rig) => {
    const sizes = [1, 975, 976, 977, 1024, 4096, 16_384, 65_487, 65_488, 65_536, 66_000];
    return carriesInOrder(rig, { count: 2 * sizes.length, bytes: (i) => sizes[i >> 1]! });
  },

  "carries the largest frames, more than a window of them": (rig) =>
    carriesInOrder(rig, { count: 3, bytes: () => FRAME_BYTES_MAX - HEADER_BYTES }),

  "holds a sender back while the receiver is slow, and loses nothing": async (rig) => {
    const { near, far } = await pair(rig);
    const ends: ConnectionEnd[] = [];
    let held = 0;
    let heldMost = 0;
    let got = 0;
    let full = 0;
    far.attach({
      frame: async (frame) => {
        heldMost = Math.max(heldMost, held += HEADER_BYTES + frame.body.length);
        await new Promise((resolve) => setTimeout(resolve, 2));
        held -= HEADER_BYTES + frame.body.length;
        got++;
      },
      closed: () => {},
    });
    const frames = calls(24, () => 1 << 20);
    let next = frames.next();
    const more = () => {
      while (!next.done) {
        if (near.send(next.value) !== "sent") return void full++;
        next = frames.next();
      }
    };
    near.attach({ frame: () => {}, writable: more, closed: (end) => ends.push(end) });
    more();
    await until(() => got === 24 || ends.length > 0, "24 frames were consumed");
    assert.deepEqual(ends, []);
    assert.ok(full > 0, "24 MiB do not fit a window of 8 MiB");
    assert.ok(heldMost <= 8 << 20, `${heldMost} bytes held`);
    near.close();
  },

  "notices at once that the peer closed, also inside a frame": async (rig) => {
    const { near, far } = await pair(rig);
    const ends: ConnectionEnd[] = [];
    near.attach({ frame: () => {}, closed: (end) => ends.push(end) });
    far.attach({ frame: () => {}, closed: () => {} });
    near.send(call(1, FRAME_BYTES_MAX - HEADER_BYTES));
    far.close();
    const startMs = performance.now();
    await until(() => ends.length > 0, "the end was noticed");
    assert.ok(performance.now() - startMs < 5000);
    assert.ok(["remote", "failed"].includes(ends[0]!.kind), ends[0]!.kind);
    assert.equal(near.send(call(2, 1)), "closed");
  },

  "ends garbage and half a handshake with a typed refusal": async (rig) => {
    const garbage = new TextEncoder().encode("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(10));
    const raw = await rig.rawDial();
    let closed = false;
    raw.start({ bytes: () => {}, closed: () => closed = true });
    raw.write(garbage);
    await until(() => closed && rig.refused.length === 1, "garbage was refused");
    assert.equal(rig.refused[0]!.failure, "protocol");
    const half = await rig.rawDial();
    half.start({ bytes: () => {}, closed: () => {} });
    const hello = createFrame("hello", 100);
    writeChecksum(hello);
    half.write(hello.bytes.slice(0, 70));
    await new Promise((resolve) => setTimeout(resolve, 20));
    half.close();
    await until(() => rig.refused.length === 2, "half a hello was refused");
    assert.equal(rig.refused[1]!.failure, "closed");
  },

  "refuses a call before the handshake, and survives it": async (rig) => {
    const raw = await rig.rawDial();
    raw.start({ bytes: () => {}, closed: () => {} });
    const early = call(1, 100);
    writeChecksum(early);
    raw.write(early.bytes);
    await until(() => rig.refused.length === 1, "it was refused");
    assert.equal(rig.refused[0]!.failure, "protocol");
    await carriesInOrder(rig, { count: 3, bytes: () => 10 });
  },

  "closes on a frame of the peer that cannot be": async (rig) => {
    const { near, far } = await pair(rig);
    const ends: ConnectionEnd[] = [];
    far.attach({
      frame: () => {
        throw new ProtocolError("body", "as a decoder would say");
      },
      closed: (end) => ends.push(end),
    });
    near.attach({ frame: () => {}, closed: () => {} });
    near.send(call(1, 10));
    await until(() => ends.length > 0 && near.closed, "both are closed");
    assert.equal(ends[0]!.kind, "protocol");
  },

  "measures the round trip": async (rig) => {
    const { near, far } = await pair(rig);
    near.attach({ frame: () => {}, closed: () => {} });
    far.attach({ frame: () => {}, closed: () => {} });
    await until(() => near.roundTrip !== undefined && far.roundTrip !== undefined, "both pinged");
    assert.ok(near.roundTrip!.minMs >= 0 && near.roundTrip!.minMs < 5000);
    near.close();
  },
};

for (const kind of kinds) {
  for (const [name, run] of Object.entries(cases)) {
    Deno.test(`transport over ${kind.name} ${name}`, () => withRig(kind, run));
  }

  Deno.test(`transport over ${kind.name} gives up a peer that is silent`, () => {
    const silent = async (rig: Rig) => {
      const raw = await rig.rawDial();
      raw.start({ bytes: () => {}, closed: () => {} });
      await until(() => rig.refused.length === 1, "the handshake timed out");
      assert.equal(rig.refused[0]!.failure, "timeout");
      raw.close();
    };
    return withRig(kind, silent, { handshakeMs: 100 });
  });
}

Deno.test("transport over TLS refuses strangers in both directions", async () => {
  const tls = kinds.find(({ name }) => name === "tls")!;
  await withRig(tls, async (rig) => {
    const options = { clock: systemClock, identity: () => identityOf("front") };
    const stranger = new ClusterTransport({ ...options, tls: pem("stranger") });
    await assert.rejects(() => stranger.dial(rig.listener.address), HandshakeError);
    const plain = new ClusterTransport(options);
    await assert.rejects(() => plain.dial(rig.listener.address), HandshakeError);
    const wary = { ...pem("client"), authority: pem("stranger").certificate };
    const distrustful = new ClusterTransport({ ...options, tls: wary });
    await assert.rejects(() => distrustful.dial(rig.listener.address), /Cannot connect to/);
    await carriesInOrder(rig, { count: 3, bytes: () => 10 });
  });
});

Deno.test("transport over WebSocket does not answer web pages and plain requests", async () => {
  const websocket = kinds.find(({ name }) => name === "websocket")!;
  await withRig(websocket, async (rig) => {
    const url = rig.listener.address.replace("ws:", "http:");
    assert.equal((await fetch(url).then((answer) => (answer.body?.cancel(), answer))).status, 426);
    const { port } = new URL(url);
    const socket = await Deno.connect({ port: Number(port) });
    const lines = ["GET / HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket"]
      .concat("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
      .concat("Sec-WebSocket-Protocol: flotilla-cluster-1", "Origin: https://example.org");
    await socket.write(new TextEncoder().encode(lines.join("\r\n") + "\r\n\r\n"));
    const answer = new Uint8Array(200);
    const length = await socket.read(answer);
    assert.match(new TextDecoder().decode(answer.subarray(0, length!)), /^HTTP\/1.1 426/);
    socket.close();
  });
});

Deno.test("transports refuse to leave loopback without protection", async () => {
  const options = { clock: systemClock, identity: () => identityOf("shard") };
  const events = { accept: () => {} };
  const open = new ClusterTransport(options);
  for (const address of ["0.0.0.0:0", "[::]:0", "ws://0.0.0.0:0/", "192.0.2.1:1"]) {
    assert.throws(() => open.listen(address, events), /without protection/);
    await assert.rejects(() => open.dial(address), /without protection/);
  }
  for (const allowed of [{ secret }, { allowPlaintext: true }]) {
    const transport = new ClusterTransport({ ...options, ...allowed });
    await (await transport.listen("0.0.0.0:0", events)).close();
  }
  // Certificates do not protect a WebSocket without them.
  const withTls = new ClusterTransport({ ...options, tls: pem("server") });
  assert.throws(() => withTls.listen("ws://0.0.0.0:0/", events), /without protection/);
});

import assert from "node:assert/strict";
import { limits } from "@/limits.ts";
import { connect, HandClock, identityOf, meet, record, SECRET_TEXT, settle } from "./_peers.ts";
import { ClusterSecret } from "./cluster_secret.ts";
import type { ByteStream } from "./byte_stream.ts";
import { type ConnectionEnd, openConnection } from "./connection.ts";
import { MemoryNetwork } from "./memory_stream.ts";
import { createFrame, FRAME_MAGIC, HEADER_BYTES, type OutgoingFrame } from "./frame.ts";
import { HandshakeError, type HandshakeFailure, ProtocolError } from "./protocol_error.ts";

const secret = ClusterSecret.fromText(SECRET_TEXT);

function call(bodyBytes: number, callId = 1): OutgoingFrame {
  return createFrame("call", bodyBytes, { callId });
}

for (const keyed of [false, true]) {
  const sides = keyed ? { front: { secret }, shard: { secret } } : {};
  const name = keyed ? "with a secret" : "without a secret";

  Deno.test(`a connection ${name} carries frames both ways in order`, async () => {
    const clock = new HandClock();
    const { front, shard } = await connect({ clock, ...sides });
    assert.equal(front.peer.nodeId, "shard-1");
    assert.equal(shard.peer.nodeId, "front-1");
    const atShard = record(shard);
    for (let i = 0; i < 20; i++) assert.equal(front.send(call(i * 10, i)), "sent");
    await settle();
    assert.deepEqual(atShard.frames.map((frame) => frame.header.callId), [...Array(20).keys()]);
    shard.send(createFrame("result", 5));
    await settle(); // before the front is attached
    const atFront = record(front);
    assert.deepEqual(atFront.frames.map((frame) => frame.header.type), ["result"]);
    front.close();
    await settle();
    assert.deepEqual([atFront.ends[0]!.kind, atShard.ends[0]!.kind], ["local", "remote"]);
    assert.equal(front.send(call(1)), "closed");
    assert.equal(clock.timerCount, 0);
  });
}

Deno.test("send() says full at the end of the window until the peer has consumed", async () => {
  const { front, shard } = await connect({ clock: new HandClock() });
  const atFront = record(front);
  const consumed: (() => void)[] = [];
  shard.attach({
    frame: () => new Promise((resolve) => consumed.push(resolve)),
    closed: () => {},
  });
  const frame = () => call((1 << 15) - HEADER_BYTES);
  const sent = [1, 2, 3, 4, 5].map(() => front.send(frame()));
  assert.deepEqual(sent, ["sent", "sent", "sent", "sent", "full"]);
  assert.equal(front.send(createFrame("cancel", 0)), "sent", "control frames need no credit");
  await settle();
  assert.equal(atFront.writableCount(), 0);
  consumed[0]!();
  await settle();
  assert.equal(atFront.writableCount(), 1);
  assert.deepEqual([front.send(frame()), front.send(frame())], ["sent", "full"]);
});

Deno.test("small credit that is owed goes out with the heartbeat", async () => {
  const clock = new HandClock();
  const { front, shard } = await connect({ clock });
  record(shard);
  let writable = 0;
  front.attach({ frame: () => {}, writable: () => void writable++, closed: () => {} });
  front.send(call(1000));
  front.send(call((1 << 16) - HEADER_BYTES));
  assert.equal(front.send(call((1 << 16) - HEADER_BYTES)), "full");
  await clock.advance(limits.clusterHeartbeatMs + 20);
  assert.equal(writable, 1);
  assert.equal(front.send(call((1 << 16) - HEADER_BYTES)), "sent");
});

Deno.test("heartbeats measure the round trip and bring the peer's load", async () => {
  const clock = new HandClock();
  const load = {
    pendingCalls: 1,
    pendingRows: 2,
    pairsPerSecond: 3.5,
    busy: 0.5,
    memoryUsedBytes: 2 ** 33,
    memoryMaxBytes: 2 ** 34,
    draining: false,
  };
  const delayMs = 30;
  const { front, shard } = await connect({
    clock,
    shard: { load: () => load },
    carry: (bytes, deliver) => {
      // The handshake needs no time; what follows takes 30 ms each way.
      if (clock.timerCount < 2 || clock.nowMs() === 1000) {
        return queueMicrotask(() => deliver(bytes));
      }
      const atMs = clock.nowMs() + delayMs;
      const stop = clock.every(10, () => {
        if (clock.nowMs() < atMs) return;
        stop();
        deliver(bytes);
      });
    },
  });
  record(front);
  record(shard);
  assert.equal(front.roundTrip, undefined);
  await clock.advance(2000);
  assert.ok(front.roundTrip!.minMs >= 60 && front.roundTrip!.minMs <= 100);
  assert.deepEqual(front.peerLoad, load);
  assert.equal(shard.peerLoad, undefined);
  assert.ok(!front.closed && !shard.closed);
});

Deno.test("a silent peer is lost in about a second; a pause of our own is not its silence", async () => {
  const clock = new HandClock();
  let cut = false;
  const { front, shard } = await connect({
    clock,
    carry: (bytes, deliver) => {
      if (!cut) queueMicrotask(() => deliver(bytes));
    },
  });
  const [atFront] = [record(front), record(shard)];
  await clock.advance(3000);
  await clock.freeze(5000);
  await clock.advance(500);
  assert.ok(!front.closed, "frozen for 5 s ourselves");
  cut = true;
  await clock.advance(600);
  assert.ok(!front.closed);
  await clock.advance(600);
  assert.equal(atFront.ends[0]?.kind, "silent");
});

async function endOf(disturb: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array[], keyed = true) {
  const clock = new HandClock();
  let disturbing = false;
  const { front, shard } = await connect({
    clock,
    ...(keyed ? { front: { secret }, shard: { secret } } : {}),
    carry: (bytes, deliver) => {
      const writes = disturbing ? disturb(bytes) : [bytes];
      queueMicrotask(() => writes.forEach(deliver));
    },
  });
  const atShard = record(shard);
  disturbing = true;
  front.send(call(100, 1));
  front.send(call(100, 2));
  await settle();
  return { ...atShard, end: atShard.ends[0] as ConnectionEnd | undefined };
}

Deno.test("sealed frames that are changed, repeated or left out close the connection", async () => {
  const violation = async (disturb: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array[]) => {
    const { end, frames } = await endOf(disturb);
    assert.equal(end?.kind, "protocol");
    assert.ok(end.error instanceof ProtocolError);
    return [end.error.violation, frames.length];
  };
  const isFirst = (bytes: Uint8Array) => bytes[16] === 1;
  assert.deepEqual(await violation((bytes) => [bytes, bytes]), ["seal", 1]);
  assert.deepEqual(await violation((bytes) => isFirst(bytes) ? [] : [bytes]), ["seal", 0]);
  const forged = (bytes: Uint8Array) => {
    const copy = bytes.slice();
    copy[copy.length - 1]! ^= 1;
    return [copy];
  };
  assert.deepEqual(await violation(forged), ["seal", 0]);
  const garbage = () => [new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n".repeat(9))];
  assert.deepEqual(await violation(garbage), ["magic", 0]);
});

Deno.test("without a secret, changed frames fail their checksum", async () => {
  const { end } = await endOf((bytes) => {
    const copy = bytes.slice();
    copy[HEADER_BYTES + 3]! ^= 4;
    return [copy];
  }, false);
  assert.ok(end?.error instanceof ProtocolError && end.error.violation === "checksum");
});

Deno.test("a peer that sends beyond its credit is cut off before the body is taken", async () => {
  const clock = new HandClock();
  let copies = 1;
  const { front, shard } = await connect({
    clock,
    carry: (bytes, deliver) => {
      const times = copies;
      queueMicrotask(() => Array(times).fill(bytes).forEach(deliver));
    },
  });
  record(front);
  const ends: ConnectionEnd[] = [];
  let taken = 0;
  const frame = () => (taken++, new Promise<void>(() => {}));
  shard.attach({ frame, closed: (end) => ends.push(end) });
  copies = 3; // of 64 KiB each, when 128 KiB were granted
  assert.equal(front.send(call((1 << 16) - HEADER_BYTES)), "sent");
  await settle();
  assert.equal(taken, 2);
  assert.ok(ends[0]!.error instanceof ProtocolError && ends[0]!.error.violation === "window");
});

Deno.test("a peer that reads nothing is given up before memory runs out", async () => {
  const clock = new HandClock();
  const network = new MemoryNetwork();
  let backlogBytes = 0;
  const options = (role: "front" | "shard") => ({
    clock,
    every: clock.every,
    frameBytesMax: 1 << 16,
    windowBytes: 1 << 17,
    nonce: crypto.getRandomValues(new Uint8Array(32)),
    identity: identityOf(role),
  });
  network.listen("memory:a", (stream) => {
    void openConnection(stream, { ...options("shard"), side: "listener" }).then(record);
  });
  const stream = network.dial("memory:a");
  const slow: ByteStream = {
    peer: stream.peer,
    binding: stream.binding,
    get backlogBytes() {
      return backlogBytes;
    },
    start: (sink) => stream.start(sink),
    write: (bytes) => stream.write(bytes),
    close: (how) => stream.close(how),
  };
  const { ends } = record(await openConnection(slow, { ...options("front"), side: "dialer" }));
  backlogBytes = (1 << 18) + limits.clusterBacklogBytesMax;
  await clock.advance(1000);
  assert.equal(ends.length, 0);
  backlogBytes++;
  await clock.advance(400);
  assert.equal(ends[0]?.kind, "stuck");
});

Deno.test("nodes that do not fit refuse each other with the reason, on both sides", async () => {
  const other = ClusterSecret.fromText(SECRET_TEXT + "!");
  const cases: [HandshakeFailure, object, object][] = [
    ["unauthorized", { secret }, {}],
    ["unauthorized", {}, { secret }],
    ["unauthorized", { secret }, { secret: other }],
    ["cluster", { identity: identityOf("front", { cluster: "b" }) }, {}],
    ["role", { identity: identityOf("shard", { nodeId: "x" }) }, {}],
    ["role", { identity: identityOf("front", { nodeId: "shard-1" }) }, {}],
    ["model", { identity: identityOf("front", { weightHash: "sha256:11" }) }, {
      secret: undefined,
    }],
    ["class", { identity: identityOf("front", { numericClass: "wasm" }) }, {}],
    ["busy", {}, { admit: () => "busy" }],
    ["draining", { admit: () => "draining" }, {}],
  ];
  for (const [failure, front, shard] of cases) {
    const peers = meet({ clock: new HandClock(), front, shard });
    const results = await Promise.allSettled([peers.front, peers.shard]);
    const errors = results.flatMap((result) => result.status === "rejected" ? [result.reason] : []);
    assert.ok(errors.length >= 1, failure);
    for (const error of errors) {
      assert.ok(error instanceof HandshakeError);
      assert.equal(error.failure, failure, error.message);
    }
    if (errors.length === 2) assert.equal(errors.filter((error) => error.remote).length, 1);
    else {
      // Without proofs the listener is done first; it learns of the refusal right after.
      const shardSide = await peers.shard;
      const { ends } = record(shardSide);
      await settle();
      assert.equal(ends[0]?.kind, "refused");
    }
  }
});

Deno.test("mixed classes connect when that is asked for, and unknown hashes fit all", async () => {
  const front = { mixedClasses: true, identity: identityOf("front", { numericClass: "wasm" }) };
  await connect({ clock: new HandClock(), front, shard: { mixedClasses: true } });
  const empty = { identity: identityOf("front", { numericClass: "", weightHash: "" }) };
  await connect({ clock: new HandClock(), front: empty });
});

Deno.test("a peer that says nothing in the handshake times out", async () => {
  const clock = new HandClock();
  const peers = meet({ clock, carry: () => {} });
  const failed = Promise.allSettled([peers.front, peers.shard]);
  await clock.advance(limits.clusterHandshakeMs + 500);
  for (const result of await failed) {
    assert.equal(result.status === "rejected" && result.reason.failure, "timeout");
  }
  assert.equal(clock.timerCount, 0);
});

Deno.test("a front of another frame version is told so", async () => {
  const clock = new HandClock();
  const peers = meet({
    clock,
    carry: (bytes, deliver, { from }) => {
      const view = new DataView(bytes.buffer);
      if (from === "dialer" && view.getUint32(0, true) === FRAME_MAGIC) bytes[4] = 9;
      queueMicrotask(() => deliver(bytes));
    },
  });
  const [front, shard] = await Promise.allSettled([peers.front, peers.shard]);
  assert.equal(shard.status === "rejected" && shard.reason.failure, "version");
  assert.equal(front.status === "rejected" && front.reason.failure, "version");
});

Deno.test("ClusterSecret refuses secrets that can be guessed", () => {
  assert.throws(() => ClusterSecret.fromText("  hunter2\n"), /7 bytes are fewer than 32/);
});

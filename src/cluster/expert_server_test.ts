import assert from "node:assert/strict";
import type { ExpertPairs } from "@/model/expert_bank.ts";
import { connect, HandClock, identityOf, record, settle } from "./_peers.ts";
import { encodeAssignment } from "./assignment_text.ts";
import { decodeResult, encodeCall } from "./call_frames.ts";
import type { Connection, ConnectionEvents, ReceivedFrame } from "./connection.ts";
import { decodeControl, encodeControl } from "./control_frames.ts";
import { ExpertGrid } from "./expert_grid.ts";
import { ExpertServer } from "./expert_server.ts";
import { type OutgoingFrame, readHeader } from "./frame.ts";
import { Holdings } from "./holdings.ts";

const grid = new ExpertGrid({ layers: [0, 1], experts: 4 });
const WIDTH = 8;

/** Expert e of layer l multiplies by 10 l + e. */
class ScalingExperts {
  readonly width = WIDTH;
  readonly held = new Set<string>();
  hold: Promise<void> | undefined;
  /** What happens while a call computes. */
  during: (() => Promise<void>) | undefined;

  load({ layer, expert }: { layer: number; expert: number }): Promise<void> {
    if (expert === 3) return Promise.reject(new Error("bad sector"));
    this.held.add(`${layer}/${expert}`);
    return Promise.resolve();
  }

  drop({ layer, expert }: { layer: number; expert: number }): void {
    this.held.delete(`${layer}/${expert}`);
  }

  async compute(pairs: ExpertPairs, out: Float32Array): Promise<void> {
    await this.hold;
    await this.during?.();
    this.computeNow(pairs, out);
  }

  computeNow({ layer, rows, rowOfPair, expertOfPair }: ExpertPairs, out: Float32Array): void {
    for (let pair = 0; pair < expertOfPair.length; pair++) {
      for (let i = 0; i < WIDTH; i++) {
        out[pair * WIDTH + i] = (10 * layer + expertOfPair[pair]!) *
          rows[rowOfPair[pair]! * WIDTH + i]!;
      }
    }
  }
}

function answersIn(frames: readonly ReceivedFrame[]): (number | string)[] {
  return frames.flatMap((frame): (number | string)[] => {
    if (frame.header.type === "result") return [decodeResult(frame).values[0]!];
    if (frame.header.type !== "refusal") return [];
    const message = decodeControl(frame);
    return message.type === "refusal" ? [message.refusal.reason] : [];
  });
}

function failuresIn(frames: readonly ReceivedFrame[]): (string | undefined)[] {
  return frames.filter(({ header }) => header.type === "report").map((frame) => {
    const message = decodeControl(frame);
    return message.type === "report" ? JSON.parse(message.text).failure : undefined;
  });
}

interface CallChange {
  readonly epoch?: number;
  readonly timeLeftMs?: number;
  readonly callId?: number;
}

/** One row of twos for some experts of layer 1. */
function callFrame(wanted: readonly number[], change: CallChange): OutgoingFrame {
  const { epoch = 1, timeLeftMs = 100, callId = 1 } = change;
  return encodeCall({
    ...{ callId, epoch, timeLeftMs, step: 0, layer: 1, width: WIDTH, encoding: "f32" },
    ...{ reply: "pairs", replyEncoding: "f32", weights: new Float32Array(), rowIndex: [0] },
    choiceCounts: Uint16Array.of(wanted.length),
    experts: Uint16Array.from(wanted),
    source: new Float32Array(WIDTH).fill(2),
  });
}

async function rig(
  run: (args: {
    clock: HandClock;
    experts: ScalingExperts;
    server: ExpertServer;
    assign: (keep: number[], serial: number) => Promise<void>;
    call: (experts: number[], change?: CallChange) => Promise<void>;
    /** Answers of calls so far: the first value of each result, or the reason of a refusal. */
    answers: () => (number | string)[];
    failures: () => (string | undefined)[];
    cancel: (callId: number) => Promise<void>;
    front: Connection;
    /** What it offers, as it introduced itself each time. */
    introductions: () => { readonly draining: boolean; readonly speed: number }[];
  }) => Promise<void>,
) {
  const clock = new HandClock();
  const experts = new ScalingExperts();
  const { front, shard } = await connect({ clock });
  const seen = record(front);
  const holdings = new Holdings({ node: "s", incarnation: 1, grid, capacity: 8 });
  const offer = { speed: 2, memoryBytes: 8, expertBytes: 1, numericClass: "c", weightHash: "w" };
  const node = { id: "s", ...offer, draining: false };
  const member = { id: "s", incarnation: 1, role: "shard", address: "", node } as const;
  const server = new ExpertServer({ grid, holdings, experts, member, clock });
  server.accept(shard);
  await run({
    clock,
    experts,
    server,
    async assign(keep, serial) {
      const order = { fence: 1, serial, epochMin: 1, epochMax: 2, keep: new Set(keep) };
      front.send(encodeControl({ type: "assign", text: encodeAssignment(order) }));
      await settle();
      await settle();
    },
    async call(wanted, change = {}) {
      front.send(callFrame(wanted, change));
      await settle();
      await settle();
    },
    answers: () => answersIn(seen.frames),
    failures: () => failuresIn(seen.frames),
    front,
    introductions: () =>
      seen.frames.filter(({ header }) => header.type === "member").map((frame) => {
        const message = decodeControl(frame);
        assert.ok(message.type === "member");
        return JSON.parse(message.text).node;
      }),
    async cancel(callId) {
      front.send(encodeControl({ type: "cancel", callId }));
      await settle();
    },
  });
  await server.close();
  front.close();
}

Deno.test("ExpertServer loads what it is assigned and computes it", () =>
  rig(async ({ assign, call, answers, experts }) => {
    await assign([4, 5], 1);
    assert.deepEqual([...experts.held], ["1/0", "1/1"]);
    await call([0, 1]);
    await assign([5], 2);
    assert.deepEqual([...experts.held], ["1/1"]);
    await call([0]);
    await call([1], { epoch: 3 });
    assert.deepEqual(answers(), [20, "unknown_expert", "wrong_epoch"]);
  }));

Deno.test("ExpertServer refuses calls whose time is over, and forgets cancelled ones", () =>
  rig(async ({ assign, call, cancel, answers, experts, clock }) => {
    await assign([5], 1);
    const { promise, resolve } = Promise.withResolvers<void>();
    experts.hold = promise;
    await call([1], { callId: 1 });
    await call([1], { callId: 2, timeLeftMs: 5 });
    await call([1], { callId: 3 });
    await cancel(3);
    await clock.advance(20);
    resolve();
    await settle();
    await settle();
    assert.deepEqual(answers(), [22, "deadline_passed"]);
  }));

/** A connection that hands `send` on, and whose frames come from `arrive`. */
function connectionTo(send: (frame: OutgoingFrame) => void) {
  let events: ConnectionEvents | undefined;
  const connection: Connection = {
    peer: identityOf("front"),
    peerAddress: "test",
    frameBytesMax: 1 << 16,
    roundTrip: undefined,
    peerLoad: undefined,
    closed: false,
    attach: (owner) => void (events = owner),
    send(frame) {
      send(frame);
      return "sent";
    },
    close() {},
  };
  const arrive = (frame: OutgoingFrame): void => {
    const header = readHeader(frame.bytes, connection.frameBytesMax);
    events!.frame({ header, body: frame.body, receivedMs: 1000 });
  };
  return { connection, arrive };
}

Deno.test("ExpertServer computes a call that arrives while it comes to rest", async () => {
  const holdings = new Holdings({ node: "s", incarnation: 1, grid, capacity: 8 });
  const member = { id: "s", incarnation: 1, role: "shard", address: "", node: undefined } as const;
  const clock = new HandClock();
  const server = new ExpertServer({ grid, holdings, experts: new ScalingExperts(), member, clock });
  let answered = () => {};
  const { connection, arrive } = connectionTo(({ type }) => {
    if (type === "result") answered();
  });
  server.accept(connection);
  const order = { fence: 1, serial: 1, epochMin: 1, epochMax: 2, keep: new Set([5]) };
  arrive(encodeControl({ type: "assign", text: encodeAssignment(order) }));
  await settle();
  // Each call comes some microtasks after the answer to the one before.
  for (let microtasks = 0; microtasks < 24; microtasks++) {
    let isAnswered = false;
    const { promise, resolve } = Promise.withResolvers<void>();
    answered = resolve;
    arrive(callFrame([1], { callId: 1 }));
    await promise;
    for (let i = 0; i < microtasks; i++) await undefined;
    answered = () => isAnswered = true;
    arrive(callFrame([1], { callId: 2 }));
    await settle();
    assert.ok(isAnswered, `no answer to a call ${microtasks} microtasks after an answer`);
  }
  await server.close();
});

/** Does not let go of the thread while it computes, except for expert 2. */
class PromptExperts extends ScalingExperts {
  fault: Error | undefined;

  computeHere(pairs: ExpertPairs, out: Float32Array): boolean {
    if (this.fault) throw this.fault;
    if (Array.from(pairs.expertOfPair).includes(2)) return false;
    this.computeNow(pairs, out);
    return true;
  }
}

Deno.test("ExpertServer answers in the turn of a call that its thread can compute at once", async () => {
  const holdings = new Holdings({ node: "s", incarnation: 1, grid, capacity: 8 });
  const member = { id: "s", incarnation: 1, role: "shard", address: "", node: undefined } as const;
  const experts = new PromptExperts();
  const server = new ExpertServer({ grid, holdings, experts, member, clock: new HandClock() });
  const answers: (number | string)[] = [];
  const { connection, arrive } = connectionTo(({ type, bytes, body }) => {
    const frame = { header: readHeader(bytes, 1 << 16), body, receivedMs: 0 };
    if (type === "result" || type === "refusal") answers.push(...answersIn([frame]));
  });
  server.accept(connection);
  const order = { fence: 1, serial: 1, epochMin: 1, epochMax: 2, keep: new Set([4, 5, 6]) };
  arrive(encodeControl({ type: "assign", text: encodeAssignment(order) }));
  await settle();
  arrive(callFrame([1], { callId: 1 }));
  assert.deepEqual(answers, [22]);
  // What cannot be done at once keeps its place before what can.
  arrive(callFrame([2], { callId: 2 }));
  arrive(callFrame([1], { callId: 3 }));
  assert.deepEqual(answers, [22]);
  await settle();
  assert.deepEqual(answers, [22, 24, 22]);
  experts.fault = new Error("a kernel failed");
  arrive(callFrame([1], { callId: 4 }));
  assert.deepEqual(answers, [22, 24, 22, "failed"]);
  experts.fault = undefined;
  arrive(callFrame([0], { callId: 5 }));
  assert.equal(answers.at(-1), 20, "a failed call does not hold up the next one");
  assert.equal(server.load().pendingRows, 0);
  await server.close();
});

Deno.test("ExpertServer reports an expert that cannot be loaded", () =>
  rig(async ({ assign, failures }) => {
    await assign([7], 1);
    assert.equal(failures().at(-1), "Cannot load expert 3 of layer 1: bad sector");
  }));

Deno.test("ExpertServer drains when told: it says so, serves on, and is vacant once all is gone", () =>
  rig(async ({ assign, call, answers, server, front, introductions }) => {
    await assign([4, 5], 1);
    front.send(encodeControl({ type: "drain", draining: true }));
    await settle();
    await settle();
    const draining = () => introductions().map((node) => node.draining);
    assert.deepEqual(draining(), [false, true]);
    await call([0]);
    const isDrained = server.drained(60_000);
    assert.equal(server.isVacant, false, "two experts are still here");
    await assign([], 2);
    assert.equal(await isDrained, true);
    await call([0]);
    assert.deepEqual(answers(), [20, "unknown_expert"]);
    server.setDraining(false);
    await settle();
    assert.deepEqual(draining(), [false, true, false]);
  }));

Deno.test("ExpertServer says its speed again when it has become slower, and faster", () =>
  rig(async ({ assign, call, server, experts, clock, introductions }) => {
    await assign([4], 1);
    const work = async (callMs: number, calls: number) => {
      experts.during = () => clock.freeze(callMs);
      for (let i = 0; i < calls; i++) await call([0], { timeLeftMs: 1e6 });
      server.announceSpeed();
      await settle();
      return introductions().map(({ speed }) => speed);
    };
    assert.deepEqual(await work(500, 40), [2], "as fast as ever");
    // The timer of the server speaks too: how often depends on this machine.
    const slow = (await work(1500, 40)).at(-1)!;
    assert.ok(slow < 0.9, `${slow}`);
    const speeds = await work(500, 160);
    assert.ok(speeds.at(-1)! > 1.5, `${speeds}`);
    assert.ok(speeds.length <= 8, `${speeds}: said once for each large change`);
  }));

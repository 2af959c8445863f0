import assert from "node:assert/strict";
import type { Clock } from "@/clock.ts";
import { RunningCalls, type TimedCall } from "./running_calls.ts";

/** A clock that is read; timers run in real time. */
class SetClock implements Clock {
  ms = 0;

  nowMs(): number {
    return this.ms;
  }

  epochMs(): number {
    return this.ms;
  }
}

function timedCall(wakeMs: number) {
  const seen: string[] = [];
  const call = {
    wakeMs,
    tick: () => {
      seen.push("tick");
      call.wakeMs = Infinity;
    },
    stalled: (ms: number) => {
      seen.push(`stalled ${ms}`);
      call.wakeMs += ms;
    },
    nodeLost: () => {},
  } satisfies TimedCall;
  return { call, seen };
}

const nextTimers = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

Deno.test("RunningCalls wakes calls when their time has come", async () => {
  const clock = new SetClock();
  const running = new RunningCalls(clock);
  const [due, later] = [timedCall(10), timedCall(1e6)];
  for (const { call } of [due, later]) running.add(call);
  running.wakeAt(10);
  clock.ms = 11;
  await nextTimers(30);
  assert.deepEqual([due.seen, later.seen], [["tick"], []]);
  running.close();
});

Deno.test("RunningCalls lets sockets be read before it judges after a stop of its own process", async () => {
  const clock = new SetClock();
  const running = new RunningCalls(clock);
  const [due, answered] = [timedCall(10), timedCall(10)];
  for (const { call } of [due, answered]) running.add(call);
  running.wakeAt(10);
  clock.ms = 60_010;
  // Its answer had been in the socket all the time.
  const { stalled } = answered.call;
  answered.call.stalled = (ms) => {
    stalled(ms);
    queueMicrotask(() => running.delete(answered.call));
  };
  await nextTimers(50);
  assert.deepEqual(answered.seen, ["stalled 60000"]);
  assert.deepEqual(due.seen, ["stalled 60000", "tick"], "once; then time counts again");
  running.close();
});

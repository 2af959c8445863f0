import assert from "node:assert/strict";
import { limits } from "@/limits.ts";
import { SpeedMeter } from "./speed_meter.ts";

/** Calls one after another for some time, each of so many pairs. */
function work(
  meter: SpeedMeter,
  args: { fromMs: number; forMs: number; pairs: number; pairMs: number },
): number {
  const { fromMs, forMs, pairs, pairMs } = args;
  const computeMs = pairs * pairMs;
  let nowMs = fromMs;
  for (; nowMs < fromMs + forMs; nowMs += 2 * computeMs) {
    meter.add({ pairs, experts: pairs, computeMs }, nowMs);
  }
  return nowMs;
}

Deno.test("SpeedMeter.speed() falls with slower calls and rises again, also without calls", () => {
  const meter = new SpeedMeter(1000, 0);
  let nowMs = work(meter, { fromMs: 0, forMs: 30_000, pairs: 4, pairMs: 1 });
  assert.ok(Math.abs(meter.speed(nowMs) - 1000) < 1, "as it was measured at the start");
  nowMs = work(meter, { fromMs: nowMs, forMs: 60_000, pairs: 4, pairMs: 3 });
  assert.ok(Math.abs(meter.speed(nowMs) - 1000 / 3) < 20, `${meter.speed(nowMs)} after a while`);
  const later = work(meter, { fromMs: nowMs, forMs: 60_000, pairs: 4, pairMs: 1 });
  assert.ok(meter.speed(later) > 950);
  nowMs = work(meter, { fromMs: later, forMs: 60_000, pairs: 4, pairMs: 3 });
  assert.ok(meter.speed(nowMs + 20 * limits.speedHalfLifeMs) > 990, "who gets no calls may try");
});

Deno.test("SpeedMeter.speed() does not grow with the rows of a call", () => {
  const meter = new SpeedMeter(1000, 0);
  let nowMs = 0;
  for (let i = 0; i < 2000; i++) {
    // Sixteen rows cost hardly more than one: the experts are read once.
    meter.add({ pairs: 1, experts: 1, computeMs: 1 }, nowMs += 2);
    meter.add({ pairs: 16, experts: 1, computeMs: 1.2 }, nowMs += 2);
  }
  assert.ok(Math.abs(meter.speed(nowMs) - 1000) < 1);
});

Deno.test("SpeedMeter.speed() corrects what was measured at the start when one pair takes less", () => {
  const meter = new SpeedMeter(100, 0);
  const nowMs = work(meter, { fromMs: 0, forMs: 30_000, pairs: 1, pairMs: 1 });
  assert.ok(Math.abs(meter.speed(nowMs) - 1000) < 1);
});

Deno.test("SpeedMeter.announcement() tells large changes that stay, now and then", () => {
  const meter = new SpeedMeter(1000, 0);
  let nowMs = work(meter, { fromMs: 0, forMs: 30_000, pairs: 4, pairMs: 1 });
  assert.equal(meter.announcement(nowMs), undefined, "nothing changed");
  nowMs = work(meter, { fromMs: nowMs, forMs: 200, pairs: 4, pairMs: 4 });
  assert.equal(meter.announcement(nowMs), undefined, "a moment is no change");
  nowMs = work(meter, { fromMs: nowMs, forMs: 40_000, pairs: 4, pairMs: 2 });
  const speed = meter.announcement(nowMs);
  assert.ok(speed !== undefined && speed < 600, `${speed}`);
  assert.equal(meter.announcement(nowMs), undefined, "once");
  nowMs = work(meter, { fromMs: nowMs, forMs: 40_000, pairs: 4, pairMs: 1 });
  const again = meter.announcement(nowMs);
  assert.ok(again !== undefined && again > 900, `${again}`);
  nowMs = work(meter, { fromMs: nowMs, forMs: limits.speedAnnounceMs / 2, pairs: 4, pairMs: 8 });
  assert.equal(meter.announcement(nowMs), undefined, "not so soon after the last word");
});

Deno.test("SpeedMeter.speed() is nominal while calls take what calls take, slower than a tight loop", () => {
  const meter = new SpeedMeter(100_000, 0);
  // 0.03 ms a pair in calls, 0.01 in the loop at the start: the same on every machine of its kind.
  const nowMs = work(meter, { fromMs: 0, forMs: 2000, pairs: 1, pairMs: 0.03 });
  assert.equal(Math.round(meter.speed(nowMs)), 100_000);
  const laterMs = work(meter, { fromMs: nowMs, forMs: 10_000, pairs: 1, pairMs: 0.12 });
  assert.ok(meter.speed(laterMs) < 50_000, `${meter.speed(laterMs)}`);
});

import { deepStrictEqual, ok, rejects, strictEqual } from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { readGoldenFile } from "./_golden.ts";
import { workerCodec } from "./codec.ts";
import { CodecPool } from "./codec_pool.ts";

const small = readGoldenFile("image_decode/rgb.png");

/**
 * A hostile JPEG of a few kilobytes: `side` x `side` gray, progressive, and hundreds of empty scans
 * that each cost a pass over all blocks.
 */
function slowJpeg(side: number): Uint8Array {
  const [high, low] = [side >> 8, side & 255];
  const segment = (marker: number, ...data: number[]) => {
    const length = data.length + 2;
    return [0xff, marker, length >> 8, length & 255, ...data];
  };
  const scan = (approximation: number) => segment(0xda, 1, 1, 0, 0, 0, approximation);
  return Uint8Array.from([
    ...[0xff, 0xd8],
    ...segment(0xdb, 0, ...new Array<number>(64).fill(1)),
    ...segment(0xc2, 8, high, low, high, low, 1, 1, 0x11, 0),
    ...segment(0xc4, 0, 1, ...new Array<number>(15).fill(0), 0),
    ...scan(0x01),
    ...Array.from({ length: 190 }, () => scan(0x10)).flat(),
    ...[0xff, 0xd9],
  ]);
}

function code(expected: string): (error: unknown) => true {
  return (error) => {
    ok(error instanceof OperatingError, String(error));
    strictEqual(error.code, expected, error.message);
    return true;
  };
}

Deno.test("CodecPool kills a worker on timeout and serves the next call from a new one", async () => {
  const codec = workerCodec({ workersMax: 1, timeoutMs: 250 });
  try {
    const slow = codec.decode(slowJpeg(6000));
    await rejects(slow, /takes longer than 250 ms/);
    // The same pool goes on: a probe is quick enough for its bound.
    let header;
    for (let attempt = 0; attempt < 20 && header === undefined; attempt++) {
      header = await codec.probe(small).catch(() => undefined);
    }
    strictEqual(header?.format, "png");
  } finally {
    codec.close();
  }
});

Deno.test("CodecPool ends a running call when its signal aborts, and the waiting one runs", async () => {
  const codec = workerCodec({ workersMax: 1 });
  try {
    await codec.probe(small);
    const controller = new AbortController();
    const running = codec.decode(slowJpeg(6000), { signal: controller.signal });
    const waiting = codec.probe(small);
    setTimeout(() => controller.abort(), 20);
    await rejects(running, code("cancelled"));
    strictEqual((await waiting).format, "png");
  } finally {
    codec.close();
  }
});

Deno.test("CodecPool answers overloaded when its queue is full", async () => {
  const pool = new CodecPool({ workersMax: 1, queueJobsMax: 2 });
  const calls = Array.from({ length: 5 }, () => pool.perform(small, { kind: "probe" }));
  const outcomes = await Promise.allSettled(calls);
  pool.close();
  deepStrictEqual(outcomes.map((outcome) => outcome.status), [
    "fulfilled",
    "fulfilled",
    "fulfilled",
    "rejected",
    "rejected",
  ]);
  code("overloaded")((outcomes[4] as PromiseRejectedResult).reason);
});

Deno.test("CodecPool rejects waiting and later calls when it is closed", async () => {
  const pool = new CodecPool({ workersMax: 1 });
  await pool.perform(small, { kind: "probe" });
  const open = [1, 2, 3].map(() => pool.perform(small, { kind: "probe" }));
  const outcomes = Promise.allSettled(open);
  await Promise.resolve();
  pool.close();
  for (const outcome of await outcomes) strictEqual(outcome.status, "rejected");
  await rejects(pool.perform(small, { kind: "probe" }), code("unavailable"));
});

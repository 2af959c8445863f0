import { deepStrictEqual, ok, rejects, strictEqual } from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { readGoldenFile } from "./_golden.ts";
import { workerCodec } from "./codec.ts";
import { CodecPool } from "./codec_pool.ts";

const small = readGoldenFile("image_decode/rgb.png");

/** A black uncompressed 24-bit BMP: large enough to take a while. */
function slowBmp(side: number): Uint8Array {
  const stride = Math.ceil((side * 3) / 4) * 4;
  const bytes = new Uint8Array(54 + stride * side);
  const view = new DataView(bytes.buffer);
  bytes.set([0x42, 0x4d]);
  view.setUint32(2, bytes.length, true);
  view.setUint32(10, 54, true);
  view.setUint32(14, 40, true);
  view.setInt32(18, side, true);
  view.setInt32(22, side, true);
  view.setUint16(26, 1, true);
  view.setUint16(28, 24, true);
  return bytes;
}

function code(expected: string): (error: unknown) => true {
  return (error) => {
    ok(error instanceof OperatingError, String(error));
    strictEqual(error.code, expected, error.message);
    return true;
  };
}

Deno.test("CodecPool kills a worker on timeout and serves the next call from a new one", async () => {
  const codec = workerCodec({ workersMax: 1, timeoutMs: 15 });
  try {
    const slow = codec.decode(slowBmp(3300));
    await rejects(slow, /takes longer than 15 ms/);
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
    const running = codec.decode(slowBmp(3300), { signal: controller.signal });
    const waiting = codec.probe(small);
    setTimeout(() => controller.abort(), 5);
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

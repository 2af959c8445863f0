import assert from "node:assert/strict";
import { inflateSync } from "node:zlib";
import { Dice } from "../dice.ts";
import { Canvas } from "./canvas.ts";
import { compressLikeJpeg } from "./jpeg_loss.ts";
import { encodePng } from "./png.ts";
import { addNoise } from "./spoiling.ts";

/** Undoes what the format says: signature, chunks, filter 1. */
function decode(bytes: Uint8Array): { width: number; height: number; data: Uint8Array } {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  assert.deepEqual([...bytes.subarray(0, 4)], [0x89, 0x50, 0x4e, 0x47]);
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  assert.deepEqual([...bytes.subarray(24, 29)], [8, 2, 0, 0, 0]);
  const rows = inflateSync(bytes.subarray(41, 41 + view.getUint32(33)));
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    assert.equal(rows[y * (width * 3 + 1)], 1);
    for (let i = 0; i < width * 3; i++) {
      const left = i >= 3 ? data[y * width * 3 + i - 3]! : 0;
      data[y * width * 3 + i] = rows[y * (width * 3 + 1) + 1 + i]! + left;
    }
  }
  return { width, height, data };
}

Deno.test("encodePng() keeps every pixel", () => {
  const canvas = new Canvas(13, 7, [10, 200, 30]);
  addNoise(canvas, 60, new Dice(3));
  assert.deepEqual(decode(encodePng(canvas)), {
    width: 13,
    height: 7,
    data: canvas.data,
  });
});

Deno.test("compressLikeJpeg() loses little at quality 95 and more at 30, and nothing that is flat", () => {
  const loss = (quality: number) => {
    const canvas = new Canvas(37, 29, [250, 250, 240]);
    canvas.fillBox({ left: 6, top: 5, right: 25, bottom: 19 }, [200, 30, 60]);
    const before = canvas.data.slice();
    compressLikeJpeg(canvas, quality);
    return before.reduce((sum, value, i) => sum + Math.abs(value - canvas.data[i]!), 0) /
      before.length;
  };
  const [fine, coarse] = [loss(95), loss(30)];
  assert.ok(fine < 4 && coarse > fine * 1.5, `${fine} and ${coarse}`);
  const flat = new Canvas(16, 16, [255, 255, 255]);
  compressLikeJpeg(flat, 50);
  assert.ok(flat.data.every((value) => value === 255));
});

/**
 * What saving as JPEG does to pixels, without writing a file: YCbCr, halved chroma, 8x8 cosine
 * transform, quantisation with the tables of the standard's Annex K, and back.
 */
import type { Picture } from "./canvas.ts";

const luminanceSteps = [
  [16, 11, 10, 16, 24, 40, 51, 61],
  [12, 12, 14, 19, 26, 58, 60, 55],
  [14, 13, 16, 24, 40, 57, 69, 56],
  [14, 17, 22, 29, 51, 87, 80, 62],
  [18, 22, 37, 56, 68, 109, 103, 77],
  [24, 35, 55, 64, 81, 104, 113, 92],
  [49, 64, 78, 87, 103, 121, 120, 101],
  [72, 92, 95, 98, 112, 100, 103, 99],
].flat();

const chrominanceSteps = [
  [17, 18, 24, 47, 99, 99, 99, 99],
  [18, 21, 26, 66, 99, 99, 99, 99],
  [24, 26, 56, 99, 99, 99, 99, 99],
  [47, 66, 99, 99, 99, 99, 99, 99],
].flat().concat(new Array<number>(32).fill(99));

/** One colour plane padded to whole blocks. */
interface Plane {
  readonly width: number;
  readonly height: number;
  readonly values: Float32Array;
}

/** Changes the pixels in place as a file of this quality (1–100) would. */
export function compressLikeJpeg(picture: Picture, quality: number): void {
  const { width, height, data } = picture;
  const luminance = newPlane(width, height);
  const blueness = newPlane(Math.ceil(width / 2), Math.ceil(height / 2));
  const redness = newPlane(Math.ceil(width / 2), Math.ceil(height / 2));
  eachPixel(picture, (x, y, at) => {
    const [r, g, b] = [data[at]!, data[at + 1]!, data[at + 2]!];
    luminance.values[y * luminance.width + x] = 0.299 * r + 0.587 * g + 0.114 * b - 128;
    const half = (y >> 1) * blueness.width + (x >> 1);
    blueness.values[half]! += (-0.168736 * r - 0.331264 * g + 0.5 * b) / 4;
    redness.values[half]! += (0.5 * r - 0.418688 * g - 0.081312 * b) / 4;
  });
  extend(luminance, width, height);
  const scale = quality < 50 ? 5000 / quality : 200 - 2 * quality;
  const steps = (table: readonly number[]) =>
    table.map((step) => Math.min(255, Math.max(1, Math.floor((step * scale + 50) / 100))));
  quantize(luminance, steps(luminanceSteps));
  quantize(blueness, steps(chrominanceSteps));
  quantize(redness, steps(chrominanceSteps));
  eachPixel(picture, (x, y, at) => {
    const light = luminance.values[y * luminance.width + x]! + 128;
    const half = (y >> 1) * blueness.width + (x >> 1);
    const [blue, red] = [blueness.values[half]!, redness.values[half]!];
    data[at] = clampByte(light + 1.402 * red);
    data[at + 1] = clampByte(light - 0.344136 * blue - 0.714136 * red);
    data[at + 2] = clampByte(light + 1.772 * blue);
  });
}

function newPlane(width: number, height: number): Plane {
  const [w, h] = [Math.ceil(width / 8) * 8, Math.ceil(height / 8) * 8];
  return { width: w, height: h, values: new Float32Array(w * h) };
}

function eachPixel(
  { width, height }: Picture,
  visit: (x: number, y: number, at: number) => void,
): void {
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 3) visit(x, y, at);
  }
}

/** Repeats the last column and row over the padding. */
function extend(plane: Plane, width: number, height: number): void {
  for (let y = 0; y < plane.height; y++) {
    for (let x = 0; x < plane.width; x++) {
      if (x < width && y < height) continue;
      const from = Math.min(y, height - 1) * plane.width + Math.min(x, width - 1);
      plane.values[y * plane.width + x] = plane.values[from]!;
    }
  }
}

/** Orthonormal cosine basis, `[frequency][position]`. */
const basis = Array.from({ length: 8 }, (_, u) =>
  Array.from({ length: 8 }, (_, x) => {
    const norm = u === 0 ? Math.sqrt(1 / 8) : 0.5;
    return norm * Math.cos((2 * x + 1) * u * Math.PI / 16);
  })).flat();

function quantize({ width, height, values }: Plane, steps: readonly number[]): void {
  const block = new Float64Array(64);
  const rows = new Float64Array(64);
  for (let top = 0; top < height; top += 8) {
    for (let left = 0; left < width; left += 8) {
      for (let i = 0; i < 64; i++) block[i] = values[(top + (i >> 3)) * width + left + (i & 7)]!;
      if (isFlat(block)) continue;
      transform(block, rows, true);
      for (let i = 0; i < 64; i++) block[i] = Math.round(block[i]! / steps[i]!) * steps[i]!;
      transform(block, rows, false);
      for (let i = 0; i < 64; i++) values[(top + (i >> 3)) * width + left + (i & 7)] = block[i]!;
    }
  }
}

function isFlat(block: Float64Array): boolean {
  for (let i = 1; i < 64; i++) if (block[i] !== block[0]) return false;
  return true;
}

/** Both passes of the transform, forward or back, in place. */
function transform(block: Float64Array, rows: Float64Array, forward: boolean): void {
  for (let pass = 0; pass < 2; pass++) {
    const [from, to] = pass === 0 ? [block, rows] : [rows, block];
    // Each pass transforms along rows and writes transposed.
    for (let i = 0; i < 8; i++) {
      for (let k = 0; k < 8; k++) {
        let sum = 0;
        for (let j = 0; j < 8; j++) {
          sum += from[i * 8 + j]! * (forward ? basis[k * 8 + j]! : basis[j * 8 + k]!);
        }
        to[k * 8 + i] = sum;
      }
    }
  }
}

function clampByte(value: number): number {
  return Math.max(0, Math.min(255, Math.round(value)));
}

/**
 * Owns the reference of the resampler: Pillow's antialiased bicubic `Image.resize`, bit for bit as
 * in Pillow 11 and 12. The codec module has the fast twin that serving uses.
 */
import { assert } from "@/assert.ts";
import type { RgbImage } from "./image.ts";

const PRECISION_BITS = 22;
const HALF = 1 << (PRECISION_BITS - 1);

/** Source span and 22-bit fixed-point weights of one output position. */
interface Window {
  readonly start: number;
  readonly weights: Int32Array;
}

/**
 * Resizes to `width` x `height` with two separable passes, horizontal first, each rounded to 8 bit.
 * A pass that would not change its size is skipped.
 */
export function resizeBicubic(image: RgbImage, width: number, height: number): RgbImage {
  assert(image.data.length === image.width * image.height * 3, "pixels must match the size");
  assert(width >= 1 && height >= 1, "a picture needs at least one pixel");
  return resizeRows(resizeColumns(image, width), height);
}

function resizeColumns(image: RgbImage, width: number): RgbImage {
  if (image.width === width) return image;
  const windows = windowsOf(image.width, width);
  const data = new Uint8Array(width * image.height * 3);
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < width; x++) {
      const first = (y * image.width + windows[x]!.start) * 3;
      const target = (y * width + x) * 3;
      accumulate({ source: image.data, first, step: 3, window: windows[x]!, data, target });
    }
  }
  return { width, height: image.height, data };
}

function resizeRows(image: RgbImage, height: number): RgbImage {
  if (image.height === height) return image;
  const windows = windowsOf(image.height, height);
  const stride = image.width * 3;
  const data = new Uint8Array(stride * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < stride; x += 3) {
      const first = windows[y]!.start * stride + x;
      const target = y * stride + x;
      accumulate({ source: image.data, first, step: stride, window: windows[y]!, data, target });
    }
  }
  return { width: image.width, height, data };
}

/** Writes one output pixel: the weighted sum of the source pixels `step` bytes apart. */
function accumulate(span: {
  source: Uint8Array;
  first: number;
  step: number;
  window: Window;
  data: Uint8Array;
  target: number;
}): void {
  const { source, first, step, window: { weights }, data, target } = span;
  for (let channel = 0; channel < 3; channel++) {
    let sum = HALF;
    for (let k = 0; k < weights.length; k++) {
      sum += source[first + k * step + channel]! * weights[k]!;
    }
    data[target + channel] = Math.min(255, Math.max(0, sum >> PRECISION_BITS));
  }
}

function windowsOf(sizeIn: number, sizeOut: number): Window[] {
  const scale = sizeIn / sizeOut;
  const filterScale = Math.max(scale, 1);
  const support = 2 * filterScale;
  return Array.from({ length: sizeOut }, (_, out) => {
    const centre = (out + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(sizeIn, Math.trunc(centre + support + 0.5));
    const exact = Array.from(
      { length: end - start },
      (_, k) => cubic((k + start - centre + 0.5) * (1 / filterScale)),
    );
    const total = exact.reduce((sum, weight) => sum + weight, 0);
    return { start, weights: Int32Array.from(exact, (weight) => toFixed(weight / total)) };
  });
}

/** 22 fractional bits, half away from zero. */
function toFixed(weight: number): number {
  return Math.sign(weight) * Math.floor(Math.abs(weight) * 2 ** PRECISION_BITS + 0.5);
}

/** Keys' cubic convolution kernel with a = -0.5. */
function cubic(x: number): number {
  const a = -0.5;
  const t = Math.abs(x);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return (((t - 5) * t + 8) * t - 4) * a;
  return 0;
}

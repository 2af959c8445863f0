/** Makes clean pictures look handled: noise, blur, uneven light, JPEG's losses. Sizes stay. */
import type { Dice } from "../dice.ts";
import type { Picture } from "./canvas.ts";
import { compressLikeJpeg } from "./jpeg_loss.ts";

/**
 * Changes the picture in place with the given probability per kind (`strength` 0 leaves it alone,
 * 1 is usual): at most one of noise, blur and shading, then perhaps JPEG's losses.
 */
export function spoil(picture: Picture, dice: Dice, strength: number): void {
  const draw = dice.unit();
  if (draw < 0.06 * strength) blur(picture, dice.between(0.3, 1));
  else if (draw < 0.13 * strength) addNoise(picture, dice.between(2, 10), dice);
  else if (draw < 0.18 * strength) shade(picture, dice);
  if (dice.chance(0.22 * strength)) compressLikeJpeg(picture, dice.integer(55, 95));
}

/** Grey Gaussian noise of a standard deviation in levels, from a table of normal draws. */
export function addNoise({ data }: Picture, deviation: number, dice: Dice): void {
  const table = Float32Array.from({ length: 1021 }, () => dice.normal() * deviation);
  let at = dice.integer(0, table.length - 1);
  let stride = dice.integer(1, table.length - 1);
  for (let i = 0; i < data.length; i += 3) {
    at = (at + stride) % table.length;
    if (i % 4095 === 0) stride = dice.integer(1, table.length - 1);
    for (let channel = 0; channel < 3; channel++) {
      data[i + channel] = clampByte(data[i + channel]! + table[at]!);
    }
  }
}

/** Gaussian blur with a radius in pixels, as two passes of a three-tap kernel per unit. */
export function blur(picture: Picture, radius: number): void {
  const weight = Math.min(0.32, radius * radius / 2);
  const passes = Math.max(1, Math.round(radius * radius / (2 * weight)));
  const { width, height, data } = picture;
  for (let pass = 0; pass < passes; pass++) {
    for (let y = 0; y < height; y++) {
      smooth(data, { start: y * width * 3, count: width, step: 3, weight });
    }
    for (let x = 0; x < width; x++) {
      smooth(data, { start: x * 3, count: height, step: width * 3, weight });
    }
  }
}

function smooth(
  data: Uint8Array,
  line: { start: number; count: number; step: number; weight: number },
): void {
  const { start, count, step, weight } = line;
  for (let channel = 0; channel < 3; channel++) {
    let before = data[start + channel]!;
    for (let i = 0; i < count; i++) {
      const at = start + channel + i * step;
      const here = data[at]!;
      const after = i + 1 < count ? data[at + step]! : here;
      data[at] = Math.round(here + weight * (before + after - 2 * here));
      before = here;
    }
  }
}

/** Light that falls off across the picture, by at most a third. */
function shade({ width, height, data }: Picture, dice: Dice): void {
  const angle = dice.between(0, 2 * Math.PI);
  const depth = dice.between(0.08, 0.33);
  const [dx, dy] = [Math.cos(angle) / width, Math.sin(angle) / height];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const along = (x - width / 2) * dx + (y - height / 2) * dy + 0.5;
      const factor = 1 - depth * Math.min(1, Math.max(0, along));
      const at = (y * width + x) * 3;
      for (let channel = 0; channel < 3; channel++) {
        data[at + channel] = Math.round(data[at + channel]! * factor);
      }
    }
  }
}

function clampByte(value: number): number {
  return Math.max(0, Math.min(255, Math.round(value)));
}

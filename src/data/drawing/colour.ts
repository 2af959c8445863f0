/** Colours as RGB triples of 0–255, and the names that questions use for them. */
import type { Dice } from "../dice.ts";

export type Rgb = readonly [red: number, green: number, blue: number];

export const WHITE: Rgb = [255, 255, 255];
export const BLACK: Rgb = [0, 0, 0];

/** Named colours: what people and plotting libraries call by that name; the first is typical. */
export const namedColours = {
  red: [[220, 30, 30], [255, 0, 0], [200, 16, 46], [214, 39, 40]],
  green: [[30, 160, 50], [0, 128, 0], [0, 200, 0], [44, 160, 44], [0, 255, 0]],
  blue: [[40, 70, 220], [0, 0, 255], [31, 119, 180], [65, 105, 225]],
  yellow: [[245, 215, 30], [255, 255, 0], [255, 215, 0]],
  purple: [[135, 40, 165], [128, 0, 128], [160, 32, 240], [148, 103, 189]],
  orange: [[248, 135, 20], [255, 165, 0], [255, 127, 14], [255, 140, 0]],
  black: [[15, 15, 15], [0, 0, 0]],
  gray: [[128, 128, 128], [127, 127, 127], [150, 150, 150]],
  pink: [[250, 150, 190], [255, 192, 203], [255, 105, 180], [227, 119, 194]],
  brown: [[130, 75, 35], [165, 42, 42], [139, 69, 19], [140, 86, 75]],
} as const satisfies Record<string, readonly Rgb[]>;

export type ColourName = keyof typeof namedColours;

export const colourNames = Object.keys(namedColours) as ColourName[];

/** The colour names whose samples are never confused with another's. */
export const plainColourNames: readonly ColourName[] = [
  "red",
  "green",
  "blue",
  "yellow",
  "purple",
  "orange",
  "black",
];

/** A shade of a named colour: one of its typical values, moved a little. */
export function shadeOf(name: ColourName, dice: Dice): Rgb {
  const shade = dice.pick<Rgb>(namedColours[name]);
  const reach = dice.chance(0.5) ? 0 : 14;
  return [0, 1, 2].map((channel) =>
    Math.min(255, Math.max(0, shade[channel]! + dice.integer(-reach, reach)))
  ) as unknown as Rgb;
}

/** Relative lightness 0–255 (Rec. 601 weights). */
export function luma([red, green, blue]: Rgb): number {
  return 0.299 * red + 0.587 * green + 0.114 * blue;
}

/** Euclidean distance in RGB. */
export function colourDistance(a: Rgb, b: Rgb): number {
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

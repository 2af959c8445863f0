/**
 * What a typeface is to the makers: outlines and advances per character. Built-in designs are in
 * `stroke_face.ts`, TrueType files in `truetype.ts`; `text_line.ts` sets lines with either.
 */
import type { Polygon } from "../drawing/scan_converter.ts";

/** One character's shape, in ems: y up from the baseline, x from the pen position. */
export interface Glyph {
  /** Overlapping polygons, non-zero rule. */
  readonly polygons: readonly Polygon[];
  readonly advance: number;
}

export interface Face {
  readonly name: string;
  /** Highest and lowest ink of letters above and below the baseline, in ems (descent > 0). */
  readonly ascent: number;
  readonly descent: number;
  /** Undefined when the face has no such character. */
  glyph(character: string): Glyph | undefined;
}

/** Whether a face can set the whole text. */
export function canSet(face: Face, text: string): boolean {
  for (const character of text) {
    if (character !== " " && !face.glyph(character)) return false;
  }
  return true;
}

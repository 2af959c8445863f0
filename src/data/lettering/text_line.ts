/** Sets one line of text in a face at a size: measures it, and gives its polygons and letter boxes. */
import type { Box } from "../drawing/canvas.ts";
import type { Polygon } from "../drawing/scan_converter.ts";
import type { Face, Glyph } from "./face.ts";

/** One visible character: its shape, the extent of its ink and its index in the text. */
export interface Letter {
  readonly character: string;
  readonly index: number;
  readonly polygons: readonly Polygon[];
  readonly box: Box;
}

/** A line whose pen starts at (0, 0) on the baseline; pixels, y down. */
export interface TextLine {
  readonly letters: readonly Letter[];
  /** Extent of the ink. */
  readonly box: Box;
  readonly advance: number;
}

const SPACE_EMS = 0.3;

/** Characters the face lacks are left out. `spacing` is added between letters, in ems. */
export function setLine(
  text: string,
  { face, size, spacing = 0 }: { face: Face; size: number; spacing?: number },
): TextLine {
  const letters: Letter[] = [];
  let x = 0;
  let index = 0;
  for (const character of text) {
    const glyph = character === " " ? undefined : face.glyph(character);
    if (glyph) {
      const polygons = place(glyph, x, size);
      letters.push({ character, index, polygons, box: boundsOf(polygons) });
    }
    x += ((glyph ? glyph.advance : SPACE_EMS) + spacing) * size;
    index++;
  }
  const box = boundsOf(letters.flatMap(({ polygons }) => polygons));
  return { letters, box, advance: x };
}

function place({ polygons }: Glyph, x: number, size: number): Polygon[] {
  return polygons.map((polygon) => {
    const out = new Array<number>(polygon.length);
    for (let i = 0; i < polygon.length; i += 2) {
      out[i] = x + polygon[i]! * size;
      out[i + 1] = -polygon[i + 1]! * size;
    }
    return out;
  });
}

/** Moves polygons. */
export function movedBy(polygons: readonly Polygon[], dx: number, dy: number): Polygon[] {
  return polygons.map((polygon) => polygon.map((value, i) => value + (i % 2 === 0 ? dx : dy)));
}

/** Turns polygons around a point, clockwise on the screen, by `angle` radians. */
export function turnedBy(
  polygons: readonly Polygon[],
  { x, y, angle }: { x: number; y: number; angle: number },
): Polygon[] {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  return polygons.map((polygon) =>
    polygon.map((_, i) => {
      const at = i - i % 2;
      const [dx, dy] = [polygon[at]! - x, polygon[at + 1]! - y];
      return i % 2 === 0 ? x + dx * c - dy * s : y + dx * s + dy * c;
    })
  );
}

/** Smallest box around polygons; empty at the origin when there are none. */
export function boundsOf(polygons: readonly Polygon[]): Box {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const polygon of polygons) {
    for (let i = 0; i < polygon.length; i += 2) {
      left = Math.min(left, polygon[i]!);
      right = Math.max(right, polygon[i]!);
      top = Math.min(top, polygon[i + 1]!);
      bottom = Math.max(bottom, polygon[i + 1]!);
    }
  }
  return left > right ? { left: 0, top: 0, right: 0, bottom: 0 } : { left, top, right, bottom };
}

/** A picture under construction: RGB pixels and the figures that can be painted on them. */
import { assert } from "@/assert.ts";
import type { Rgb } from "./colour.ts";
import { type Polygon, scanConvert } from "./scan_converter.ts";

/** Pixels as `[height, width, 3]` u8, RGB, row-major. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array<ArrayBuffer>;
}

/** A rectangle in pixels. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** A letter on a picture: which one, of which place in its text, and the extent of its ink. */
export interface LetterPlace {
  readonly character: string;
  readonly index: number;
  readonly box: Box;
}

export class Canvas implements Picture {
  /** What small lettering was put on it; whoever sets text says so. */
  readonly letters: LetterPlace[] = [];
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array<ArrayBuffer>;

  constructor(width: number, height: number, background: Rgb) {
    assert(width >= 1 && height >= 1, "a picture needs at least one pixel");
    this.width = width;
    this.height = height;
    this.data = new Uint8Array(width * height * 3);
    this.data.set(background);
    // Doubles the painted part: far fewer calls than one per pixel.
    for (let done = 3; done < this.data.length; done *= 2) {
      this.data.copyWithin(done, 0, Math.min(done, this.data.length - done));
    }
  }

  /** Fills polygons by the non-zero winding rule. */
  fill(polygons: readonly Polygon[], colour: Rgb, opacity = 1): void {
    const { data, width, height } = this;
    scanConvert(polygons, {
      width,
      height,
      paint: (y, start, end, coverage) => {
        for (let x = start, at = (y * width + start) * 3; x < end; x++, at += 3) {
          const alpha = Math.min(1, coverage[x]!) * opacity;
          if (alpha <= 0) continue;
          for (let channel = 0; channel < 3; channel++) {
            const under = data[at + channel]!;
            data[at + channel] = Math.round(under + (colour[channel]! - under) * alpha);
          }
        }
      },
    });
  }

  fillBox({ left, top, right, bottom }: Box, colour: Rgb): void {
    this.fill([[left, top, right, top, right, bottom, left, bottom]], colour);
  }

  strokeBox({ left, top, right, bottom }: Box, colour: Rgb, line: number): void {
    this.line([left, top, right, top, right, bottom, left, bottom, left, top], colour, line);
  }

  /** A polyline `x0, y0, x1, y1, …` of a width in pixels, with square-cut ends and round joins. */
  line(points: readonly number[], colour: Rgb, width: number): void {
    this.fill(linePolygons(points, width), colour);
  }
}

/** The outline of a polyline, as overlapping pieces of one direction. */
export function linePolygons(points: readonly number[], width: number): Polygon[] {
  const half = width / 2;
  const pieces: Polygon[] = [];
  for (let i = 0; i + 3 < points.length; i += 2) {
    const [x0, y0, x1, y1] = [points[i]!, points[i + 1]!, points[i + 2]!, points[i + 3]!];
    const length = Math.hypot(x1 - x0, y1 - y0);
    if (length === 0) continue;
    const [nx, ny] = [-(y1 - y0) / length * half, (x1 - x0) / length * half];
    pieces.push([x0 - nx, y0 - ny, x1 - nx, y1 - ny, x1 + nx, y1 + ny, x0 + nx, y0 + ny]);
    if (i > 0) pieces.push(ellipsePolygon({ x: x0, y: y0, rx: half, ry: half }));
  }
  return pieces;
}

/** An ellipse as a polygon whose corners deviate less than a tenth of a pixel. */
export function ellipsePolygon(
  { x, y, rx, ry }: { x: number; y: number; rx: number; ry: number },
): Polygon {
  const corners = Math.max(8, Math.min(96, Math.ceil(Math.sqrt(Math.max(rx, ry)) * 8)));
  const points: number[] = [];
  for (let i = 0; i < corners; i++) {
    const angle = 2 * Math.PI * i / corners;
    points.push(x + rx * Math.cos(angle), y + ry * Math.sin(angle));
  }
  return points;
}

/** A slice of a disc from `from` to `to` radians (clockwise from three o'clock). */
export function slicePolygon(
  slice: { x: number; y: number; radius: number; from: number; to: number },
): Polygon {
  const { x, y, radius, from, to } = slice;
  const steps = Math.max(2, Math.ceil((to - from) * Math.sqrt(radius) * 1.5));
  const points = [x, y];
  for (let i = 0; i <= steps; i++) {
    const angle = from + (to - from) * i / steps;
    points.push(x + radius * Math.cos(angle), y + radius * Math.sin(angle));
  }
  return points;
}

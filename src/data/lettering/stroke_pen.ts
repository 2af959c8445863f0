/**
 * The pen of the built-in typefaces: turns centre lines into outlines with an elliptic nib. Owns
 * no letter shapes (`glyphs_table.ts`) and no metrics (`stroke_face.ts`).
 */
import type { Polygon } from "../drawing/scan_converter.ts";

/** The nib and the ends of strokes, in ems. */
export interface Nib {
  /** Half the thickness of a vertical stroke, and of a horizontal one. */
  readonly rh: number;
  readonly rv: number;
  /** Degrees by which the thinnest part of a round letter is turned from the vertical. */
  readonly stress: number;
  readonly roundEnds: boolean;
  /** Exponent of bowls: 2 is an ellipse, larger is squarer. */
  readonly squareness: number;
}

type Point = readonly [x: number, y: number];

/** Turn in radians from which two segments meet in a corner. */
const CORNER = 0.7;

/** Collects the outline pieces of one glyph; all pieces turn the same way. */
export class StrokePen {
  readonly polygons: Polygon[] = [];
  #turn: Point | undefined;

  constructor(readonly nib: Nib) {}

  /** From now on strokes are turned by half a circle around this point. */
  turnAround(x: number, y: number): void {
    this.#turn = [x, y];
  }

  /** An open path along its centre line, ends cut square to it (or round). */
  path(points: readonly Point[]): void {
    const kept = points.filter((point, i) => i === 0 || distance(point, points[i - 1]!) > 1e-6);
    if (kept.length < 2) return;
    let start = 0;
    for (let i = 1; i < kept.length; i++) {
      const corner = i < kept.length - 1 && turn(kept[i - 1]!, kept[i]!, kept[i + 1]!) > CORNER;
      if (!corner && i < kept.length - 1) continue;
      this.#strip(kept.slice(start, i + 1));
      if (corner) this.#joint(kept[i]!);
      start = i;
    }
    if (this.nib.roundEnds) {
      this.#joint(kept[0]!);
      this.#joint(kept.at(-1)!);
    }
  }

  /** A straight stroke whose ends are cut horizontally, as in v, k or A. */
  diagonal(x0: number, y0: number, x1: number, y1: number): void {
    if (this.nib.roundEnds) return this.path([[x0, y0], [x1, y1]]);
    const length = Math.hypot(x1 - x0, y1 - y0);
    const half = this.#thickness((x1 - x0) / length, (y1 - y0) / length) * length /
      Math.abs(y1 - y0);
    this.piece([x0 - half, y0, x0 + half, y0, x1 + half, y1, x1 - half, y1]);
  }

  /** Part of a superellipse around (x, y), from one angle to another in degrees, 90 = top. */
  arc(x: number, y: number, rx: number, ry: number, from: number, to: number): void {
    this.path(this.arcPoints(x, y, rx, ry, from, to));
  }

  arcPoints(
    ...[x, y, rx, ry, from, to]: [number, number, number, number, number, number]
  ): Point[] {
    const steps = Math.max(2, Math.ceil(Math.abs(to - from) / 15));
    const power = 2 / this.nib.squareness;
    return Array.from({ length: steps + 1 }, (_, i): Point => {
      const angle = (from + (to - from) * i / steps) * Math.PI / 180;
      const [c, s] = [Math.cos(angle), Math.sin(angle)];
      return [
        x + rx * Math.sign(c) * Math.abs(c) ** power,
        y + ry * Math.sign(s) * Math.abs(s) ** power,
      ];
    });
  }

  box(left: number, bottom: number, right: number, top: number): void {
    this.piece([left, bottom, right, bottom, right, top, left, top]);
  }

  /** One filled polygon. */
  piece(polygon: number[]): void {
    if (this.#turn) {
      const [x, y] = this.#turn;
      for (let i = 0; i < polygon.length; i += 2) {
        polygon[i] = 2 * x - polygon[i]!;
        polygon[i + 1] = 2 * y - polygon[i + 1]!;
      }
    }
    this.polygons.push(signedArea(polygon) < 0 ? reversed(polygon) : polygon);
  }

  /** Half the stroke's thickness across the direction (dx, dy) of length 1. */
  #thickness(dx: number, dy: number): number {
    const angle = this.nib.stress * Math.PI / 180;
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    const [nx, ny] = [-dy, dx];
    return Math.hypot(this.nib.rh * (nx * c + ny * s), this.nib.rv * (-nx * s + ny * c));
  }

  /** A smooth stretch as one outline: along its left side and back along the right. */
  #strip(points: readonly Point[]): void {
    const left: number[] = [];
    const right: number[] = [];
    for (const [i, [x, y]] of points.entries()) {
      const [ax, ay] = points[Math.max(0, i - 1)]!;
      const [bx, by] = points[Math.min(points.length - 1, i + 1)]!;
      const length = Math.hypot(bx - ax, by - ay) || 1;
      const [dx, dy] = [(bx - ax) / length, (by - ay) / length];
      const half = this.#thickness(dx, dy);
      left.push(x - dy * half, y + dx * half);
      right.unshift(x + dy * half, y - dx * half);
    }
    this.piece([...left, ...right]);
  }

  /** The nib set down once: fills the wedge between two segments. */
  #joint([x, y]: Point): void {
    const angle = this.nib.stress * Math.PI / 180;
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    const polygon: number[] = [];
    for (let i = 0; i < 12; i++) {
      const turn = Math.PI * i / 6;
      const [u, v] = [this.nib.rh * Math.cos(turn), this.nib.rv * Math.sin(turn)];
      polygon.push(x + u * c - v * s, y + u * s + v * c);
    }
    this.piece(polygon);
  }
}

function signedArea(polygon: Polygon): number {
  let sum = 0;
  for (let i = 0; i < polygon.length; i += 2) {
    const j = (i + 2) % polygon.length;
    sum += polygon[i]! * polygon[j + 1]! - polygon[j]! * polygon[i + 1]!;
  }
  return sum;
}

function reversed(polygon: Polygon): Polygon {
  const out: number[] = [];
  for (let i = polygon.length - 2; i >= 0; i -= 2) out.push(polygon[i]!, polygon[i + 1]!);
  return out;
}

function distance([ax, ay]: Point, [bx, by]: Point): number {
  return Math.hypot(bx - ax, by - ay);
}

/** Angle in radians by which the path turns at `at`. */
function turn(before: Point, at: Point, after: Point): number {
  const a = Math.atan2(at[1] - before[1], at[0] - before[0]);
  const b = Math.atan2(after[1] - at[1], after[0] - at[0]);
  const difference = Math.abs(a - b);
  return Math.min(difference, 2 * Math.PI - difference);
}

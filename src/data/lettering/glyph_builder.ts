/** The strokes that letters are made of, between a face's heights: stems, arches, bowls, serifs. */
import { type Nib, StrokePen } from "./stroke_pen.ts";

/** What sets one design apart from another; lengths in ems. */
export interface Design extends Nib {
  readonly name: string;
  /** Factor of letter widths. */
  readonly width: number;
  readonly xHeight: number;
  readonly capHeight: number;
  readonly ascender: number;
  /** Below the baseline, positive. */
  readonly descender: number;
  /** How far a serif sticks out of its stem; 0 has none. Its thickness, and whether it tapers. */
  readonly serif: number;
  readonly serifHeight: number;
  readonly bracketed: boolean;
  /** Horizontal shear: 0.2 is a usual italic. */
  readonly slant: number;
  /** White beside each letter. */
  readonly bearing: number;
  /** All advances are this, if set. */
  readonly fixedAdvance: number | undefined;
  /** Half the opening of c, e, s in degrees. */
  readonly aperture: number;
  readonly aStoreys: 1 | 2;
  readonly gStoreys: 1 | 2;
  readonly oneFoot: boolean;
  readonly oneFlag: boolean;
  readonly zeroMark: "none" | "slash" | "dot";
  readonly openFour: boolean;
  readonly barredSeven: boolean;
  readonly curvedNine: boolean;
  readonly tailedY: boolean;
  readonly tailedL: boolean;
  readonly slabI: boolean;
  readonly capISlab: boolean;
}

/** Draws one glyph. `width` of the outline is set by the glyph's recipe first. */
export class GlyphBuilder extends StrokePen {
  /** Outline width without bearings. */
  w = 0;

  constructor(readonly d: Design) {
    super(d);
  }

  /** Sets the outline width from a nominal width at `width` 1 and returns it. */
  wide(nominal: number): number {
    const least = 2.6 * this.d.rh;
    this.w = Math.max(least, nominal * this.d.width + this.d.rh);
    return this.w;
  }

  /** Centre line of a stem at the left edge, at the right edge, and the middle. */
  get l(): number {
    return this.d.rh;
  }
  get r(): number {
    return this.w - this.d.rh;
  }
  get m(): number {
    return this.w / 2;
  }

  /** Heights of centre lines of horizontal strokes that touch baseline, x-height and cap height. */
  get lo(): number {
    return this.d.rv;
  }
  get x(): number {
    return this.d.xHeight - this.d.rv;
  }
  get c(): number {
    return this.d.capHeight - this.d.rv;
  }

  /** A vertical bar; `serifs` names its ends: b bottom, t top (both sides), l top (left only). */
  stem(x: number, from: number, to: number, serifs = ""): void {
    if (this.d.roundEnds) {
      const inset = this.d.rv;
      this.path([[x, from + inset], [x, to - inset]]);
    } else {
      this.box(x - this.d.rh, from, x + this.d.rh, to);
    }
    if (serifs.includes("b")) this.serif(x, from, 1);
    if (serifs.includes("t")) this.serif(x, to, -1);
    if (serifs.includes("l")) this.serif(x, to, -1, "left");
  }

  /** A serif at a stem's end; `up` 1 stands on `y`, -1 hangs from it. */
  serif(x: number, y: number, up: 1 | -1, side: "both" | "left" | "right" = "both"): void {
    const { serif, serifHeight, rh, bracketed } = this.d;
    if (serif <= 0) return;
    const left = side === "right" ? x : x - rh - serif;
    const right = side === "left" ? x : x + rh + serif;
    const edge = y + up * serifHeight;
    this.box(left, Math.min(y, edge), right, Math.max(y, edge));
    if (!bracketed) return;
    const tip = edge + up * serif * 0.7;
    if (side !== "right") this.piece([x - rh - serif, edge, x - rh, edge, x - rh, tip]);
    if (side !== "left") this.piece([x + rh + serif, edge, x + rh, edge, x + rh, tip]);
  }

  /** A horizontal bar between outline edges, its centre line at y. */
  bar(from: number, to: number, y: number): void {
    const { rv, rh, roundEnds } = this.d;
    if (roundEnds) this.path([[from + rh, y], [to - rh, y]]);
    else this.box(from, y - rv, to, y + rv);
  }

  /** A full bowl that fills an outline box. */
  bowl(left: number, bottom: number, right: number, top: number): void {
    const { rh, rv } = this.d;
    const [rx, ry] = [(right - left) / 2 - rh, (top - bottom) / 2 - rv];
    this.arc((left + right) / 2, (top + bottom) / 2, rx, ry, 0, 360);
  }

  /** An arch from the stem at `from` to the one at `to` (centre lines), touching height `top`. */
  arch(from: number, to: number, top: number, foot = "b"): void {
    const rx = (to - from) / 2;
    const ry = Math.min(rx * 1.05, top * 0.55);
    const y = top - this.d.rv - ry;
    this.arc((from + to) / 2, y, rx, ry, 180, 0);
    this.stem(to, 0, y + 0.01, foot);
  }

  /** A dot: round for round pens, else square. */
  dot(x: number, y: number, scale = 1.15): void {
    const radius = Math.max(this.d.rh, 0.035) * scale;
    if (this.d.roundEnds || this.d.serif > 0) {
      this.piece(this.arcPoints(x, y, radius, radius, 0, 345).flat());
    } else {
      this.box(x - radius, y - radius, x + radius, y + radius);
    }
  }
}

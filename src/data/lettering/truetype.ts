/**
 * Reads TrueType files (`glyf` outlines) as faces, for makers that are given a folder of fonts.
 * Knows no hinting, no kerning and no CFF outlines; composite glyphs may scale and shift.
 */
import { OperatingError } from "@/errors.ts";
import type { Face, Glyph } from "./face.ts";

/** Nested composites before a file counts as broken. */
const COMPOSITE_DEPTH_MAX = 6;
/** Straight pieces of one quadratic curve. */
const CURVE_STEPS = 4;

const unreadable = (name: string, problem: string): OperatingError =>
  new OperatingError("invalid_request", `Cannot read font ${name}: ${problem}`);

export class TrueTypeFace implements Face {
  readonly name: string;
  readonly ascent: number;
  readonly descent: number;
  readonly #view: DataView;
  readonly #tables: ReadonlyMap<string, number>;
  readonly #unitsPerEm: number;
  readonly #longOffsets: boolean;
  readonly #glyphCount: number;
  readonly #metricsCount: number;
  readonly #index: (codePoint: number) => number;
  readonly #glyphs = new Map<string, Glyph | undefined>();

  /** Throws OperatingError when the bytes are no TrueType font with outlines. */
  constructor(name: string, bytes: Uint8Array) {
    this.name = name;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    try {
      this.#tables = readTables(this.#view);
      for (const tag of ["head", "hhea", "hmtx", "maxp", "cmap", "loca", "glyf"]) {
        if (!this.#tables.has(tag)) throw unreadable(name, `it has no ${tag} table`);
      }
      this.#unitsPerEm = this.#view.getUint16(this.#at("head") + 18);
      this.#longOffsets = this.#view.getInt16(this.#at("head") + 50) === 1;
      this.#glyphCount = this.#view.getUint16(this.#at("maxp") + 4);
      this.#metricsCount = this.#view.getUint16(this.#at("hhea") + 34);
      this.ascent = this.#view.getInt16(this.#at("hhea") + 4) / this.#unitsPerEm;
      this.descent = -this.#view.getInt16(this.#at("hhea") + 6) / this.#unitsPerEm;
      this.#index = readCharacterMap(this.#view, this.#at("cmap"));
    } catch (error) {
      if (error instanceof RangeError) throw unreadable(name, "it is truncated");
      throw error;
    }
    if (this.#unitsPerEm === 0) throw unreadable(name, "it has no units per em");
  }

  glyph(character: string): Glyph | undefined {
    if (!this.#glyphs.has(character)) this.#glyphs.set(character, this.#read(character));
    return this.#glyphs.get(character);
  }

  #at(tag: string): number {
    return this.#tables.get(tag)!;
  }

  #read(character: string): Glyph | undefined {
    const index = this.#index(character.codePointAt(0)!);
    if (index === 0 || index >= this.#glyphCount) return undefined;
    try {
      const scale = 1 / this.#unitsPerEm;
      const polygons = this.#outline(index, 0).map((contour) => contour.map((v) => v * scale));
      const metric = Math.min(index, this.#metricsCount - 1);
      return { polygons, advance: this.#view.getUint16(this.#at("hmtx") + 4 * metric) * scale };
    } catch (error) {
      if (error instanceof RangeError) throw unreadable(this.name, "it is truncated");
      throw error;
    }
  }

  /** Flattened contours in font units. */
  #outline(index: number, depth: number): number[][] {
    const loca = this.#at("loca");
    const [from, to] = this.#longOffsets
      ? [this.#view.getUint32(loca + 4 * index), this.#view.getUint32(loca + 4 * index + 4)]
      : [
        2 * this.#view.getUint16(loca + 2 * index),
        2 * this.#view.getUint16(loca + 2 * index + 2),
      ];
    if (from === to) return [];
    const at = this.#at("glyf") + from;
    const contours = this.#view.getInt16(at);
    if (contours >= 0) return readContours(this.#view, at + 10, contours);
    if (depth >= COMPOSITE_DEPTH_MAX) throw unreadable(this.name, "its glyphs contain each other");
    return this.#composite(at + 10, depth);
  }

  #composite(start: number, depth: number): number[][] {
    const out: number[][] = [];
    let at = start;
    for (;;) {
      const flags = this.#view.getUint16(at);
      const index = this.#view.getUint16(at + 2);
      const words = (flags & 1) !== 0;
      const offsets = (flags & 2) !== 0;
      const dx = words ? this.#view.getInt16(at + 4) : this.#view.getInt8(at + 4);
      const dy = words ? this.#view.getInt16(at + 6) : this.#view.getInt8(at + 5);
      at += words ? 8 : 6;
      const fixed = () => {
        const value = this.#view.getInt16(at) / 16384;
        at += 2;
        return value;
      };
      let [a, b, c, d] = [1, 0, 0, 1];
      if (flags & 8) a = d = fixed();
      else if (flags & 0x40) [a, d] = [fixed(), fixed()];
      else if (flags & 0x80) [a, b, c, d] = [fixed(), fixed(), fixed(), fixed()];
      for (const contour of this.#outline(index, depth + 1)) {
        out.push(contour.map((value, i) => {
          const [x, y] = i % 2 === 0 ? [value, contour[i + 1]!] : [contour[i - 1]!, value];
          if (i % 2 === 0) return a * x + c * y + (offsets ? dx : 0);
          return b * x + d * y + (offsets ? dy : 0);
        }));
      }
      if ((flags & 0x20) === 0) return out;
    }
  }
}

function readTables(view: DataView): Map<string, number> {
  const tables = new Map<string, number>();
  const count = view.getUint16(4);
  for (let i = 0; i < count; i++) {
    const at = 12 + 16 * i;
    const tag = String.fromCharCode(...[0, 1, 2, 3].map((k) => view.getUint8(at + k)));
    tables.set(tag, view.getUint32(at + 8));
  }
  return tables;
}

/** The Unicode subtable in format 4 or 12; a font without one maps nothing. */
function readCharacterMap(view: DataView, cmap: number): (codePoint: number) => number {
  const count = view.getUint16(cmap + 2);
  for (const wanted of [12, 4]) {
    for (let i = 0; i < count; i++) {
      const platform = view.getUint16(cmap + 4 + 8 * i);
      const at = cmap + view.getUint32(cmap + 8 + 8 * i);
      if ((platform !== 0 && platform !== 3) || view.getUint16(at) !== wanted) continue;
      return wanted === 12 ? readGroups(view, at) : readSegments(view, at);
    }
  }
  return () => 0;
}

function readGroups(view: DataView, at: number): (codePoint: number) => number {
  const count = view.getUint32(at + 12);
  return (codePoint) => {
    for (let i = 0; i < count; i++) {
      const group = at + 16 + 12 * i;
      const first = view.getUint32(group);
      if (codePoint >= first && codePoint <= view.getUint32(group + 4)) {
        return view.getUint32(group + 8) + codePoint - first;
      }
    }
    return 0;
  };
}

function readSegments(view: DataView, at: number): (codePoint: number) => number {
  const double = view.getUint16(at + 6);
  return (codePoint) => {
    for (let i = 0; i < double; i += 2) {
      if (codePoint > view.getUint16(at + 14 + i)) continue;
      const first = view.getUint16(at + 16 + double + i);
      if (codePoint < first) return 0;
      const delta = view.getUint16(at + 16 + 2 * double + i);
      const rangeAt = at + 16 + 3 * double + i;
      const range = view.getUint16(rangeAt);
      if (range === 0) return (codePoint + delta) & 0xffff;
      const index = view.getUint16(rangeAt + range + 2 * (codePoint - first));
      return index === 0 ? 0 : (index + delta) & 0xffff;
    }
    return 0;
  };
}

interface OutlinePoint {
  readonly x: number;
  readonly y: number;
  readonly onCurve: boolean;
}

function readContours(view: DataView, start: number, count: number): number[][] {
  const ends = Array.from({ length: count }, (_, i) => view.getUint16(start + 2 * i));
  const total = (ends.at(-1) ?? -1) + 1;
  let at = start + 2 * count;
  at += 2 + view.getUint16(at);
  const flags: number[] = [];
  while (flags.length < total) {
    const flag = view.getUint8(at++);
    const repeats = flag & 8 ? view.getUint8(at++) : 0;
    for (let i = 0; i <= repeats && flags.length < total; i++) flags.push(flag);
  }
  const coordinates = (short: number, same: number): number[] => {
    let value = 0;
    return flags.map((flag) => {
      if (flag & short) value += (flag & same ? 1 : -1) * view.getUint8(at++);
      else if (!(flag & same)) {
        value += view.getInt16(at);
        at += 2;
      }
      return value;
    });
  };
  const xs = coordinates(2, 16);
  const ys = coordinates(4, 32);
  let first = 0;
  return ends.map((end) => {
    const points: OutlinePoint[] = [];
    for (let i = first; i <= end; i++) {
      points.push({ x: xs[i]!, y: ys[i]!, onCurve: (flags[i]! & 1) !== 0 });
    }
    first = end + 1;
    return flatten(points);
  });
}

/** A contour of on-curve and quadratic control points as a polygon. */
function flatten(points: readonly OutlinePoint[]): number[] {
  if (points.length < 2) return [];
  const middle = (a: OutlinePoint, b: OutlinePoint): OutlinePoint => ({
    x: (a.x + b.x) / 2,
    y: (a.y + b.y) / 2,
    onCurve: true,
  });
  const firstOn = points.findIndex((point) => point.onCurve);
  const start = firstOn >= 0 ? points[firstOn]! : middle(points.at(-1)!, points[0]!);
  const from = firstOn >= 0 ? firstOn + 1 : 0;
  const rest = [...points.slice(from), ...points.slice(0, Math.max(0, firstOn)), start];
  const out: number[] = [];
  let at = start;
  let control: OutlinePoint | undefined;
  const curveTo = (end: OutlinePoint) => {
    for (let step = 1; step <= CURVE_STEPS; step++) {
      const t = step / CURVE_STEPS;
      const [a, b, c] = [(1 - t) ** 2, 2 * t * (1 - t), t * t];
      out.push(a * at.x + b * control!.x + c * end.x, a * at.y + b * control!.y + c * end.y);
    }
    at = end;
  };
  for (const point of rest) {
    if (point.onCurve) {
      if (control) curveTo(point);
      else out.push(point.x, point.y);
      at = point;
      control = undefined;
      continue;
    }
    if (control) curveTo(middle(control, point));
    control = point;
  }
  return out;
}

/** Typefaces drawn by our own pen: a design becomes glyphs on demand. */
import type { Polygon } from "../drawing/scan_converter.ts";
import type { Face, Glyph } from "./face.ts";
import { type Design, GlyphBuilder } from "./glyph_builder.ts";
import { glyphRecipes } from "./glyphs_table.ts";

export class StrokeFace implements Face {
  readonly name: string;
  readonly ascent: number;
  readonly descent: number;
  readonly #glyphs = new Map<string, Glyph>();

  constructor(readonly design: Design) {
    this.name = design.name;
    this.ascent = Math.max(design.ascender, design.capHeight, design.xHeight + 0.25);
    this.descent = design.descender;
  }

  glyph(character: string): Glyph | undefined {
    const known = this.#glyphs.get(character);
    if (known) return known;
    if (!Object.hasOwn(glyphRecipes, character)) return undefined;
    const glyph = drawGlyph(this.design, character);
    this.#glyphs.set(character, glyph);
    return glyph;
  }
}

function drawGlyph(design: Design, character: string): Glyph {
  const builder = new GlyphBuilder(design);
  glyphRecipes[character]!(builder);
  const { fixedAdvance, bearing, slant } = design;
  const xs = builder.polygons.flatMap((polygon) => polygon.filter((_, i) => i % 2 === 0));
  const [inkLeft, inkRight] = [Math.min(...xs), Math.max(...xs)];
  let left = bearing - inkLeft;
  let advance = inkRight - inkLeft + 2 * bearing;
  let squeeze = 1;
  if (fixedAdvance !== undefined) {
    advance = fixedAdvance;
    squeeze = Math.min(1, (fixedAdvance - 2 * design.rh * 0.4) / builder.w);
    left = (fixedAdvance - builder.w * squeeze) / 2;
  }
  const polygons = builder.polygons.map((polygon): Polygon => {
    const out = new Array<number>(polygon.length);
    for (let i = 0; i < polygon.length; i += 2) {
      const y = polygon[i + 1]!;
      out[i] = left + polygon[i]! * squeeze + y * slant;
      out[i + 1] = y;
    }
    return out;
  });
  return { polygons, advance };
}

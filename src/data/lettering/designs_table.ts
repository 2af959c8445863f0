/** The built-in typeface designs, and random ones between and beside them. */
import type { Dice } from "../dice.ts";
import type { Design } from "./glyph_builder.ts";

const plain: Design = {
  name: "Anker",
  rh: 0.046,
  rv: 0.041,
  stress: 0,
  roundEnds: false,
  squareness: 2.25,
  width: 1,
  xHeight: 0.53,
  capHeight: 0.72,
  ascender: 0.755,
  descender: 0.21,
  serif: 0,
  serifHeight: 0.05,
  bracketed: false,
  slant: 0,
  bearing: 0.055,
  fixedAdvance: undefined,
  aperture: 42,
  aStoreys: 2,
  gStoreys: 1,
  oneFoot: false,
  oneFlag: true,
  zeroMark: "none",
  openFour: false,
  barredSeven: false,
  curvedNine: true,
  tailedY: false,
  tailedL: false,
  slabI: false,
  capISlab: false,
};

const book: Partial<Design> = {
  rh: 0.042,
  rv: 0.02,
  stress: 8,
  squareness: 2.05,
  width: 0.93,
  xHeight: 0.46,
  capHeight: 0.66,
  ascender: 0.69,
  serif: 0.05,
  serifHeight: 0.028,
  bracketed: true,
  bearing: 0.03,
  oneFoot: true,
};

const slab: Partial<Design> = {
  rh: 0.045,
  rv: 0.036,
  serif: 0.055,
  serifHeight: 0.062,
  oneFoot: true,
  bearing: 0.03,
};

const mono: Partial<Design> = {
  rh: 0.042,
  rv: 0.039,
  fixedAdvance: 0.6,
  oneFoot: true,
  slabI: true,
  capISlab: true,
  width: 0.95,
};

const bold: Partial<Design> = { rh: 0.085, rv: 0.07, bearing: 0.05, width: 1.08 };
const light: Partial<Design> = { rh: 0.022, rv: 0.02 };
const oblique: Partial<Design> = { slant: 0.2 };

function design(name: string, ...changes: Partial<Design>[]): Design {
  return Object.assign({}, plain, ...changes, { name });
}

/** Thirty-two designs: sans, serif, slab, mono, rounded; weights, widths, slants. */
export const builtInDesigns: readonly Design[] = [
  design("Anker"),
  design("Anker Bold", bold),
  design("Anker Light", light),
  design("Anker Oblique", oblique),
  design("Anker Narrow", { width: 0.76, bearing: 0.045 }),
  design("Anker Wide", { width: 1.2, squareness: 2.4 }),
  design("Boje", { aperture: 60, squareness: 2.1, xHeight: 0.55, tailedL: true, oneFlag: true }),
  design("Boje Bold", bold, { aperture: 58, squareness: 2.1, xHeight: 0.55, rv: 0.074 }),
  design("Deck", { aperture: 24, squareness: 2.5, xHeight: 0.52 }),
  design("Deck Bold", bold, { aperture: 26, squareness: 2.5 }),
  design("Ebbe", { aStoreys: 1, squareness: 2, xHeight: 0.47, aperture: 46, tailedY: false }),
  design("Ebbe Light", light, { aStoreys: 1, squareness: 2, xHeight: 0.45 }),
  design("Flut", { roundEnds: true, rh: 0.05, rv: 0.05, tailedY: true, aStoreys: 1 }),
  design("Flut Bold", { roundEnds: true, rh: 0.08, rv: 0.08, width: 1.1, openFour: true }),
  design("Gaffel", book),
  design("Gaffel Bold", book, { rh: 0.072, rv: 0.03, width: 1.03 }),
  design("Gaffel Italic", book, { slant: 0.24, aStoreys: 1, tailedY: true, width: 0.86 }),
  design("Gaffel Old", book, { gStoreys: 2, stress: 18, curvedNine: false, squareness: 2 }),
  design("Hafen", book, { rh: 0.05, rv: 0.014, stress: 0, serifHeight: 0.014, gStoreys: 2 }),
  design("Hafen Bold", book, { rh: 0.086, rv: 0.017, stress: 0, serifHeight: 0.018, width: 1.1 }),
  design("Insel", slab),
  design("Insel Bold", slab, { rh: 0.078, rv: 0.06, width: 1.08, serifHeight: 0.08 }),
  design("Insel Light", slab, { rh: 0.024, rv: 0.022, serifHeight: 0.036 }),
  design("Jolle Mono", mono),
  design("Jolle Mono Bold", mono, { rh: 0.07, rv: 0.06 }),
  design("Jolle Mono Slashed", mono, { zeroMark: "slash", tailedL: true, aperture: 52 }),
  design("Kiel Typewriter", mono, slab, { zeroMark: "none", slabI: true, rh: 0.032, rv: 0.03 }),
  design("Kiel Dotted", mono, { zeroMark: "dot", barredSeven: true, squareness: 2.6 }),
  design("Lotse", { squareness: 3.4, width: 0.96, aperture: 22, barredSeven: true }),
  design("Lotse Bold", bold, { squareness: 3.4, aperture: 24, openFour: true }),
  design("Mole", { stress: 22, rh: 0.052, rv: 0.03, roundEnds: false, aperture: 56 }),
  design("Mole Hand", {
    roundEnds: true,
    rh: 0.034,
    rv: 0.034,
    slant: 0.12,
    aStoreys: 1,
    tailedY: true,
    openFour: true,
    curvedNine: false,
    xHeight: 0.44,
  }),
];

/** Designs that training never shows: their scores are the honest ones for a new typeface. */
export const heldOutDesigns: readonly Design[] = [
  design("Nock", { squareness: 2.8, aperture: 34, width: 0.9, rh: 0.054, rv: 0.048 }),
  design("Orlog", book, { rh: 0.058, rv: 0.026, squareness: 2.3, xHeight: 0.5, stress: 12 }),
  design("Pier Mono", mono, { squareness: 2.1, rh: 0.052, aperture: 30 }),
  design("Quai", slab, { width: 1.12, aperture: 50, rh: 0.056, tailedY: true }),
];

/** A design near one of the built-in ones: every measure moved, some features switched. */
export function randomDesign(dice: Dice): Design {
  const start = dice.pick(builtInDesigns);
  const weight = dice.between(0.8, 1.3);
  const nudge = (value: number, reach: number) => value * dice.between(1 - reach, 1 + reach);
  const flip = (value: boolean) => dice.chance(0.15) ? !value : value;
  return {
    ...start,
    name: `${start.name} ~`,
    rh: Math.min(0.1, nudge(start.rh * weight, 0.06)),
    rv: Math.min(0.09, nudge(start.rv * weight, 0.12)),
    stress: start.stress + dice.between(-6, 6),
    squareness: Math.max(1.9, nudge(start.squareness, 0.1)),
    width: nudge(start.width, 0.12),
    xHeight: nudge(start.xHeight, 0.08),
    capHeight: nudge(start.capHeight, 0.04),
    descender: nudge(start.descender, 0.12),
    serif: start.serif === 0 ? 0 : nudge(start.serif, 0.3),
    slant: dice.chance(0.15) ? dice.between(0.08, 0.26) : start.slant,
    bearing: nudge(start.bearing, 0.25),
    aperture: nudge(start.aperture, 0.25),
    aStoreys: dice.chance(0.15) ? 1 : start.aStoreys,
    openFour: flip(start.openFour),
    curvedNine: flip(start.curvedNine),
    tailedL: start.slabI ? start.tailedL : flip(start.tailedL),
    oneFoot: flip(start.oneFoot),
  };
}

/**
 * Cues: what a patch of the vision tower's output is asked in training about the drawing under it.
 * An answer says one thing about a picture, cues say hundreds, so the tower learns to read many
 * times sooner. Here are the questions, and their right answers from a maker's marks; the head that
 * is asked is `cue_head.ts`. Cues are no part of the model.
 */
import { colourNames } from "@/data/drawing/colour.ts";
import { shapeNames } from "@/data/makers/figures.ts";
import { type Mark, ranks } from "@/data/makers/sample.ts";

const GLYPHS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-×=?.,:";

/** Letters beyond this place of their line are all asked as this one. */
const ORDER_MAX = 8;

/** Categories of a chart that are told apart, and steps of its axis. */
const CATEGORIES_MAX = 8;
const LEVELS = 10;

/** The questions, and how many answers each has; answer 0 is always "nothing". */
export const cueKinds = {
  /** The glyph under the patch's left and right half. */
  left: GLYPHS.length + 1,
  right: GLYPHS.length + 1,
  /** The glyph's place in its line, from 1. */
  order: ORDER_MAX + 1,
  /** Shape and colour of the figure whose middle lies in the patch. */
  centre: shapeNames.length + 1,
  colour: colourNames.length + 1,
  /** Shape of the figure that covers the patch. */
  cover: shapeNames.length + 1,
  /** Number of the chart's category, from 1, in whose slot the patch lies, and its value's level. */
  category: CATEGORIES_MAX + 1,
  level: LEVELS + 2,
  /** Whether that value is the chart's lowest, highest or between. */
  rank: ranks.length + 1,
  /** The level of the bar that ends in the patch: seen there, and carried through the slot from there. */
  end: LEVELS + 2,
} as const;

export type CueKind = keyof typeof cueKinds;

export const cueNames = Object.keys(cueKinds) as CueKind[];

/** Where cues are asked: of the tower's patches, or of the visual tokens behind the adapter. */
export const cuePlaces = ["patches", "tokens"] as const;

export type CuePlace = typeof cuePlaces[number];

/** Mean loss of each kind. */
export type CueLosses = Readonly<Record<CueKind, number>>;

/** What `valueOf` says of each kind. */
export function cueRecord(valueOf: (kind: CueKind, index: number) => number): CueLosses {
  return Object.fromEntries(
    cueNames.map((kind, index) => [kind, valueOf(kind, index)]),
  ) as CueLosses;
}

/** Of a step, where cues were asked. */
export type StepCueLosses = Readonly<Partial<Record<CuePlace, CueLosses>>>;

/** Where a tile lies in its picture, both in pixels of the picture, and the patches of its side. */
export interface TileView {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  readonly side: number;
}

/** u8 [kinds, side * side]: the right answer of each patch of a tile. */
export function cueAnswers(marks: readonly Mark[], view: TileView): Uint8Array {
  const { side } = view;
  const answers = new Uint8Array(cueNames.length * side * side);
  const of = (kind: CueKind) => {
    const at = cueNames.indexOf(kind) * side * side;
    return answers.subarray(at, at + side * side);
  };
  for (const mark of marks) {
    const box = {
      left: (mark.box.left - view.left) * side / view.width,
      right: (mark.box.right - view.left) * side / view.width,
      top: (mark.box.top - view.top) * side / view.height,
      bottom: (mark.box.bottom - view.top) * side / view.height,
    };
    if (box.right <= 0 || box.bottom <= 0 || box.left >= side || box.top >= side) continue;
    const marking = { box, side, of };
    if (mark.kind === "letter") markLetter(mark, marking);
    else if (mark.kind === "figure") markFigure(mark, marking);
    else if (mark.kind === "category") markCategory(mark, marking);
    else markEnd(mark, marking);
  }
  return answers;
}

interface Marking {
  /** In patches. */
  readonly box: { left: number; right: number; top: number; bottom: number };
  readonly side: number;
  readonly of: (kind: CueKind) => Uint8Array;
}

function markLetter({ label, order }: Mark, { box, side, of }: Marking): void {
  const glyph = GLYPHS.indexOf(label) + 1;
  const quarter = (box.bottom - box.top) / 4;
  const [first, last] = [patchAt(box.top + quarter, side), patchAt(box.bottom - quarter, side)];
  // A half counts when its middle lies in the letter.
  for (const [kind, middle] of [["left", 0.25], ["right", 0.75]] as const) {
    const from = Math.max(0, Math.ceil(box.left - middle));
    const to = Math.min(side, Math.ceil(box.right - middle));
    for (let row = first; row <= last; row++) {
      for (let column = from; column < to; column++) {
        of(kind)[row * side + column] = glyph;
        of("order")[row * side + column] = Math.min(ORDER_MAX, order);
      }
    }
  }
}

function markFigure({ label, colour }: Mark, { box, side, of }: Marking): void {
  const shape = (shapeNames as readonly string[]).indexOf(label) + 1;
  const cover = of("cover");
  for (const patch of patchesIn(box, side)) cover[patch] = shape;
  const middle = patchAt((box.top + box.bottom) / 2, side) * side +
    patchAt((box.left + box.right) / 2, side);
  of("centre")[middle] = shape;
  of("colour")[middle] = (colourNames as readonly string[]).indexOf(colour ?? "") + 1;
}

function markCategory({ label, order, rank }: Mark, { box, side, of }: Marking): void {
  const [categories, levels, ranked] = [of("category"), of("level"), of("rank")];
  const answer = rank === undefined ? 0 : 1 + ranks.indexOf(rank);
  for (const patch of patchesIn(box, side)) {
    categories[patch] = Math.min(CATEGORIES_MAX, order);
    levels[patch] = 1 + Math.min(LEVELS, Number(label));
    ranked[patch] = answer;
  }
}

function markEnd({ label }: Mark, { box, side, of }: Marking): void {
  const ends = of("end");
  for (let y = patchAt(box.top, side); y <= patchAt(box.bottom, side); y++) {
    for (let x = patchAt(box.left, side); x <= patchAt(box.right, side); x++) {
      ends[y * side + x] = 1 + Math.min(LEVELS, Number(label));
    }
  }
}

/** Patches whose middle lies in a box. */
function* patchesIn({ left, right, top, bottom }: Marking["box"], side: number): Iterable<number> {
  const half = 0.5;
  const last = patchAt(right - half, side);
  for (let row = patchAt(top + half, side); row <= patchAt(bottom - half, side); row++) {
    for (let column = patchAt(left + half, side); column <= last; column++) {
      yield row * side + column;
    }
  }
}

/** The patch at a distance, inside the tile. */
function patchAt(distance: number, side: number): number {
  return Math.min(side - 1, Math.max(0, Math.floor(distance)));
}

/**
 * Weights of all patches in one kind's loss: the mean over patches with something in them plus the
 * mean over empty ones, since most patches are empty.
 */
export function cueWeights(answers: Uint8Array): Float32Array {
  let full = 0;
  for (const answer of answers) if (answer > 0) full++;
  const empty = answers.length - full;
  return Float32Array.from(answers, (answer) => 1 / (1 + (answer > 0 ? full : empty)));
}

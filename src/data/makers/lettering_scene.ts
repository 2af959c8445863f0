/** Puts lines of lettering into a picture: size, place, colours, typeface; reports every letter. */
import type { Dice } from "../dice.ts";
import { Canvas } from "../drawing/canvas.ts";
import { BLACK, colourDistance, type Rgb, WHITE } from "../drawing/colour.ts";
import { spoil } from "../drawing/spoiling.ts";
import { builtInDesigns, randomDesign } from "../lettering/designs_table.ts";
import { canSet, type Face } from "../lettering/face.ts";
import { StrokeFace } from "../lettering/stroke_face.ts";
import { boundsOf, type Letter, movedBy, setLine, turnedBy } from "../lettering/text_line.ts";
import type { MakerSettings, Mark } from "./sample.ts";

/** The built-in typefaces as faces. */
export function builtInFaces(): Face[] {
  return builtInDesigns.map((design) => new StrokeFace(design));
}

/** Width and height of a picture: mostly the usual square. */
export function pictureSize(dice: Dice, { side, otherSizes }: MakerSettings): [number, number] {
  if (!dice.chance(otherSizes)) return [side, side];
  if (dice.chance(0.5)) {
    const s = Math.round(side * dice.pick([0.5, 0.57, 0.72, 0.86, 1.14, 1.29, 1.5, 1.71]));
    return [s, s];
  }
  const width = Math.round(side * dice.between(0.5, 1.7));
  const height = Math.round(width / Math.exp(dice.between(-0.45, 0.45)));
  return [width, Math.min(2 * side, Math.max(Math.ceil(side / 2.4), height))];
}

/** A light, mostly white background. */
export function lightBackground(dice: Dice): Rgb {
  const draw = dice.unit();
  if (draw < 0.68) return WHITE;
  if (draw < 0.88) {
    const grey = dice.integer(225, 255);
    return [grey, grey, grey];
  }
  return [dice.integer(205, 255), dice.integer(205, 255), dice.integer(205, 255)];
}

/** Ink and paper that can be told apart; now and then light on dark. */
function inkAndPaper(dice: Dice): [ink: Rgb, paper: Rgb] {
  const paper = lightBackground(dice);
  let ink: Rgb;
  if (dice.chance(0.7)) {
    const grey = dice.chance(0.75) ? 0 : dice.integer(0, 80);
    ink = [grey, grey, grey];
  } else {
    ink = [dice.integer(0, 140), dice.integer(0, 140), dice.integer(0, 140)];
  }
  if (colourDistance(ink, paper) < 160) ink = BLACK;
  return dice.chance(0.06) ? [paper, ink] : [ink, paper];
}

export function pickFace(dice: Dice, settings: MakerSettings, text: string): Face {
  if (dice.chance(settings.newDesigns)) return new StrokeFace(randomDesign(dice));
  for (let tries = 0; tries < 8; tries++) {
    const face = dice.pick(settings.faces);
    if (canSet(face, text)) return face;
  }
  return new StrokeFace(builtInDesigns[0]!);
}

/** Ink size in pixels for a picture `unit` times the usual size. */
function letterSize(dice: Dice, spread: number, unit: number): number {
  if (!dice.chance(spread)) return unit * dice.between(spread > 0 ? 50 : 80, 125);
  return unit * dice.weighted([
    [dice.between(20, 76), 6],
    [dice.between(16, 32), 3],
    [dice.between(72, 130), 1],
  ]);
}

export interface Lettering {
  readonly canvas: Canvas;
  readonly marks: Mark[];
  readonly faceName: string;
  /** Font size in pixels. */
  readonly size: number;
}

/** Lines of text on one picture, all in one face and size. */
export function drawLettering(
  lines: readonly string[],
  { dice, settings, face }: { dice: Dice; settings: MakerSettings; face?: Face },
): Lettering {
  const [width, height] = pictureSize(dice, settings);
  const [ink, paper] = inkAndPaper(dice);
  const chosen = face ?? pickFace(dice, settings, lines.join(""));
  const spacing = dice.chance(0.12) ? dice.between(-0.02, 0.12) : 0;
  const unit = Math.min(width, height) / 224;
  const margin = dice.pick([0.01, 0.03, 0.05]) * Math.min(width, height);
  const leading = dice.between(1.12, 1.7);
  let size = Math.max(9, letterSize(dice, settings.spread, unit));
  const set = (at: number): Letter[][] =>
    lines.map((line) => [...setLine(line, { face: chosen, size: at, spacing }).letters]);
  const extent = (at: number) => {
    const rows = set(at).map((letters, row) =>
      letters.map((letter) => movedLetter(letter, 0, row * leading * at))
    );
    return { rows, box: boundsOf(rows.flat().flatMap(({ polygons }) => polygons)) };
  };
  let { rows, box } = extent(size);
  for (let tries = 0; tries < 4; tries++) {
    const scale = Math.min(
      (width - 2 * margin) / (box.right - box.left || 1),
      (height - 2 * margin) / (box.bottom - box.top || 1),
    );
    if (scale >= 1) break;
    size = Math.max(7, size * scale * 0.995);
    ({ rows, box } = extent(size));
  }
  const [dx, dy] = placeBox(dice, { width, height, margin, box, spread: settings.spread });
  const tilt = dice.chance(0.12 * settings.spread) ? dice.between(-0.1, 0.1) : 0;
  const canvas = new Canvas(width, height, paper);
  if (dice.chance(0.08 * settings.spoiling)) drawClutter(canvas, dice, ink);
  const style = dice.weighted([["solid", 0.93], ["outline", 0.03], ["shadow", 0.04]] as const);
  const marks: Mark[] = [];
  const placed = rows.flat().map((letter) => {
    const moved = movedLetter(letter, dx, dy);
    return tilt === 0 ? moved : turnedLetter(moved, width / 2, height / 2, tilt);
  });
  paintLetters(canvas, placed, { ink, paper, size, style });
  for (const { character, index, box } of placed) {
    marks.push({ kind: "letter", picture: 0, box, label: character, order: index + 1 });
  }
  spoil(canvas, dice, settings.spoiling);
  return { canvas, marks, faceName: chosen.name, size };
}

function movedLetter(letter: Letter, dx: number, dy: number): Letter {
  const polygons = movedBy(letter.polygons, dx, dy);
  return { ...letter, polygons, box: boundsOf(polygons) };
}

function turnedLetter(letter: Letter, x: number, y: number, angle: number): Letter {
  const polygons = turnedBy(letter.polygons, { x, y, angle });
  return { ...letter, polygons, box: boundsOf(polygons) };
}

/** How far to move a box so that it stands inside the margins, near the middle or anywhere. */
function placeBox(
  dice: Dice,
  { width, height, margin, box, spread }: {
    width: number;
    height: number;
    margin: number;
    box: { left: number; top: number; right: number; bottom: number };
    spread: number;
  },
): [dx: number, dy: number] {
  const freeX = Math.max(0, width - (box.right - box.left) - 2 * margin);
  const freeY = Math.max(0, height - (box.bottom - box.top) - 2 * margin);
  if (dice.chance(spread * 0.75)) {
    const [x, y] = [margin + dice.unit() * freeX, margin + dice.unit() * freeY];
    return [Math.round(x) - box.left, Math.round(y) - box.top];
  }
  const [jx, jy] = [0.03 + 0.03 * (1 + spread), 0.05 + 0.03 * (1 + spread)];
  const within = (free: number, reach: number, size: number) =>
    margin + Math.min(free, Math.max(0, free / 2 + dice.between(-reach, reach) * size));
  const [x, y] = [within(freeX, jx, width), within(freeY, jy, height)];
  return [Math.round(x) - box.left, Math.round(y) - box.top];
}

type LetterStyle = "solid" | "outline" | "shadow";

function paintLetters(
  canvas: Canvas,
  letters: readonly Letter[],
  { ink, paper, size, style }: { ink: Rgb; paper: Rgb; size: number; style: LetterStyle },
): void {
  const mixed = (share: number): Rgb =>
    [0, 1, 2].map((i) => Math.round(paper[i]! + (ink[i]! - paper[i]!) * share)) as unknown as Rgb;
  const shift = Math.max(1, size * 0.035);
  for (const { polygons } of letters) {
    if (style === "shadow" && size > 24) {
      canvas.fill(movedBy(polygons, shift, shift), mixed(0.35));
    }
    canvas.fill(polygons, ink);
    if (style === "outline" && size > 40) {
      // The letter again in the paper's colour, smaller by the shifts' overlap.
      canvas.fill(movedBy(polygons, shift * 0.7, shift * 0.7), paper, 0.85);
    }
  }
}

/** Faint lines and a frame, as on forms and lined paper. */
function drawClutter(canvas: Canvas, dice: Dice, ink: Rgb): void {
  const { width, height } = canvas;
  const faint = ink.map((v) => Math.round(v + (255 - v) * 0.72)) as unknown as Rgb;
  if (dice.chance(0.5)) {
    const step = dice.between(0.08, 0.2) * height;
    for (let y = dice.unit() * step; y < height; y += step) {
      canvas.line([0, y, width, y], faint, 1);
    }
  } else {
    const inset = dice.between(1, 5);
    canvas.strokeBox(
      { left: inset, top: inset, right: width - inset, bottom: height - inset },
      faint,
      dice.between(1, 3),
    );
  }
}

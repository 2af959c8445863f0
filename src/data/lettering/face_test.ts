import assert from "node:assert/strict";
import { Dice } from "../dice.ts";
import { builtInDesigns, heldOutDesigns, randomDesign } from "./designs_table.ts";
import { canSet, type Face } from "./face.ts";
import { StrokeFace } from "./stroke_face.ts";
import { boundsOf, setLine } from "./text_line.ts";
import { TrueTypeFace } from "./truetype.ts";

const ALL =
  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?-_+=×÷/%$()'\"#<>&";

/** Shares of a 12x12 grid over the ink that polygons' corners and edges pass: a crude likeness. */
function signature(face: Face, character: string): string {
  const { polygons, advance } = face.glyph(character)!;
  return JSON.stringify([polygons.map((p) => p.map((v) => Math.round(v * 50))), advance]);
}

Deno.test("StrokeFace draws every character, inside its line, in every design", () => {
  for (const design of [...builtInDesigns, ...heldOutDesigns]) {
    const face = new StrokeFace(design);
    assert.ok(canSet(face, ALL), design.name);
    for (const character of ALL) {
      const { polygons, advance } = face.glyph(character)!;
      const { top, bottom, left, right } = boundsOf(polygons);
      assert.ok(advance > 0.05 && advance < 1.6, `${design.name} ${character}: ${advance}`);
      assert.ok(top >= -0.4 && bottom <= 1.05, `${design.name} ${character}: ${top} to ${bottom}`);
      assert.ok(left > -0.25 && right < advance + 0.45, `${design.name} ${character}`);
    }
  }
});

Deno.test("StrokeFace tells every two letters of a design apart, and designs from each other", () => {
  const faces = builtInDesigns.map((design) => new StrokeFace(design));
  assert.ok(faces.length >= 20);
  for (const face of faces) {
    assert.equal(new Set([...ALL].map((character) => signature(face, character))).size, ALL.length);
  }
  const sets = faces.map((face) => [..."aegnR47"].map((c) => signature(face, c)).join());
  assert.equal(new Set(sets).size, faces.length);
});

Deno.test("randomDesign() gives usable designs for any seed", () => {
  for (let seed = 0; seed < 60; seed++) {
    const face = new StrokeFace(randomDesign(new Dice(seed)));
    for (const character of "aegijlmnQRW0147") {
      const values = face.glyph(character)!.polygons.flat();
      assert.ok(values.every((value) => Number.isFinite(value) && Math.abs(value) < 2));
    }
  }
});

Deno.test("setLine() puts letters side by side and reports each one's box", () => {
  const face = new StrokeFace(builtInDesigns[0]!);
  const line = setLine("ab c", { face, size: 100 });
  assert.deepEqual(line.letters.map(({ character, index }) => [character, index]), [
    ["a", 0],
    ["b", 1],
    ["c", 3],
  ]);
  const [a, b, c] = line.letters;
  assert.ok(a!.box.right < b!.box.left && b!.box.right + 20 < c!.box.left);
  assert.ok(line.box.top < -70 && line.box.bottom > -3 && line.box.bottom < 3);
});

Deno.test("TrueTypeFace refuses what is no font with a sentence", () => {
  const open = (bytes: Uint8Array) => () => new TrueTypeFace("x.ttf", bytes);
  assert.throws(open(new Uint8Array(3)), /Cannot read font x\.ttf: it is truncated/);
  assert.throws(open(new Uint8Array(64)), /Cannot read font x\.ttf: it has no head table/);
});

/** A font of one composite-free glyph: a square of 500 units for "A", made by hand. */
function squareFont(): Uint8Array {
  const glyph = [0, 1, 0, 0, 0, 0, 1, 244, 1, 244, 0, 3, 0, 0, 1, 1, 1, 1]
    .concat([0, 0, 1, 244, 0, 0, 254, 12], [0, 0, 0, 0, 1, 244, 0, 0]);
  const tables: [string, number[]][] = [
    ["head", [...Array(18).fill(0), 3, 232, ...Array(30).fill(0), 0, 0, 0, 0]],
    ["hhea", [0, 1, 0, 0, 3, 32, 255, 56, ...Array(26).fill(0), 0, 2]],
    ["hmtx", [0, 0, 0, 0, 2, 88, 0, 0]],
    ["maxp", [0, 1, 0, 0, 0, 2]],
    [
      "cmap",
      [0, 0, 0, 1, 0, 3, 0, 1, 0, 0, 0, 12, 0, 4, 0, 32, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0]
        .concat([0, 65, 255, 255, 0, 0, 0, 65, 255, 255, 255, 192, 0, 1, 0, 0, 0, 0]),
    ],
    ["loca", [0, 0, 0, 0, 0, glyph.length / 2]],
    ["glyf", glyph],
  ];
  const bytes: number[] = [0, 1, 0, 0, 0, tables.length, 0, 0, 0, 0, 0, 0];
  let at = 12 + 16 * tables.length;
  for (const [tag, body] of tables) {
    bytes.push(...new TextEncoder().encode(tag), 0, 0, 0, 0, 0, 0, at >> 8, at & 255);
    bytes.push(0, 0, body.length >> 8, body.length & 255);
    at += body.length;
  }
  return Uint8Array.from([...bytes, ...tables.flatMap(([, body]) => body)]);
}

Deno.test("TrueTypeFace reads outlines, advances and the character map", () => {
  const face = new TrueTypeFace("square.ttf", squareFont());
  const { polygons, advance } = face.glyph("A")!;
  assert.equal(advance, 0.6);
  assert.deepEqual(boundsOf(polygons), { left: 0, top: 0, right: 0.5, bottom: 0.5 });
  assert.equal(face.glyph("B"), undefined);
  assert.ok(!canSet(face, "AB"));
});

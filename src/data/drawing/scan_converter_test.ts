import assert from "node:assert/strict";
import fc from "fast-check";
import { ellipsePolygon, linePolygons } from "./canvas.ts";
import { type Polygon, scanConvert } from "./scan_converter.ts";

const SIDE = 40;

/** Coverage of a SIDE x SIDE picture. */
function coverageOf(polygons: readonly Polygon[]): Float32Array {
  const out = new Float32Array(SIDE * SIDE);
  scanConvert(polygons, {
    width: SIDE,
    height: SIDE,
    paint: (y, start, end, coverage) => out.set(coverage.subarray(start, end), y * SIDE + start),
  });
  return out;
}

const sum = (values: Float32Array) => values.reduce((a, b) => a + b, 0);

function box(left: number, top: number, right: number, bottom: number): Polygon {
  return [left, top, right, top, right, bottom, left, bottom];
}

Deno.test("scanConvert() covers a box by its area, exactly in x, by sample lines in y", () => {
  const place = fc.double({ min: 0, max: 20, noNaN: true });
  fc.assert(fc.property(place, place, place, place, (x, y, w, h) => {
    const got = sum(coverageOf([box(x, y, x + w, y + h)]));
    assert.ok(Math.abs(got - w * h) <= w / 6 + 1e-3, `${got} for ${w} x ${h}`);
  }));
});

Deno.test("scanConvert() counts overlaps once and cuts opposite holes", () => {
  assert.ok(Math.abs(sum(coverageOf([box(2, 2, 12, 12), box(7, 2, 17, 12)])) - 150) < 1e-3);
  const hole = [8, 8, 8, 12, 12, 12, 12, 8];
  assert.ok(Math.abs(sum(coverageOf([box(5, 5, 15, 15), hole])) - 84) < 1e-3);
});

Deno.test("scanConvert() stays inside the picture and between 0 and 1 for any polygon", () => {
  const corner = fc.double({ min: -60, max: 100, noNaN: true });
  fc.assert(fc.property(fc.array(corner, { minLength: 6, maxLength: 16 }), (points) => {
    const even = points.slice(0, points.length - points.length % 2);
    for (const value of coverageOf([even])) assert.ok(value >= 0 && value <= 1 + 1e-5);
  }));
});

Deno.test("scanConvert() paints the same shape at another whole place, bit for bit", () => {
  const shape = ellipsePolygon({ x: 10.3, y: 9.7, rx: 6.2, ry: 4.1 });
  const moved = shape.map((value, i) => value + (i % 2 === 0 ? 8 : 16));
  const [a, b] = [coverageOf([shape]), coverageOf([moved])];
  for (let y = 0; y < 20; y++) {
    for (let x = 0; x < 20; x++) {
      const difference = Math.abs(a[y * SIDE + x]! - b[(y + 16) * SIDE + x + 8]!);
      assert.ok(difference < 1e-5, `${x}, ${y}: ${difference}`);
    }
  }
});

Deno.test("linePolygons() of a bent line has no gap at the bend", () => {
  const coverage = coverageOf(linePolygons([5, 30, 20, 10, 35, 30], 4));
  assert.ok(coverage[10 * SIDE + 20]! > 0.95);
});

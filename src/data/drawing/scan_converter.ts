/**
 * The anti-aliased scan converter: polygons to coverage, by the non-zero winding rule. Owns no
 * colours and no pixels; `canvas.ts` paints what it reports.
 */

/** A closed polygon as `x0, y0, x1, y1, …` in pixels; the last corner joins the first. */
export type Polygon = readonly number[];

/** Called with a row, and the coverage in [0, 1] of its pixels from `start` to `end` (excluded). */
export type PaintRow = (y: number, start: number, end: number, coverage: Float32Array) => void;

interface Edge {
  /** First and last (excluded) sample line the edge crosses. */
  readonly from: number;
  readonly to: number;
  /** x on sample line `from`, and its step per line. */
  readonly x: number;
  readonly slope: number;
  readonly winding: 1 | -1;
}

/** Sample lines per pixel row; horizontally coverage is exact. */
const LINES = 6;

/**
 * Reports the coverage of the union of `polygons` (overlaps count once, opposite directions cut
 * holes) inside a picture of `width` x `height` pixels.
 */
export function scanConvert(
  polygons: readonly Polygon[],
  { width, height, paint }: { width: number; height: number; paint: PaintRow },
): void {
  const edges = collectEdges(polygons, height);
  if (edges.length === 0) return;
  edges.sort((a, b) => a.from - b.from);
  const coverage = new Float32Array(width);
  const crossings = new Crossings();
  const active: Edge[] = [];
  let next = 0;
  const firstRow = Math.floor(edges[0]!.from / LINES);
  for (let y = firstRow; y < height; y++) {
    const span = new Span(width);
    for (let line = y * LINES; line < (y + 1) * LINES; line++) {
      dropFinished(active, line);
      while (next < edges.length && edges[next]!.from <= line) active.push(edges[next++]!);
      if (active.length > 0) sweep(crossings.of(active, line), coverage, span);
    }
    if (span.end > span.start) {
      paint(y, span.start, span.end, coverage);
      coverage.fill(0, span.start, span.end);
    }
    if (active.length === 0) {
      if (next >= edges.length) return;
      // Jump over empty rows; the loop adds the one.
      y = Math.max(y, Math.floor(edges[next]!.from / LINES) - 1);
    }
  }
}

function dropFinished(active: Edge[], line: number): void {
  let kept = 0;
  for (const edge of active) if (edge.to > line) active[kept++] = edge;
  active.length = kept;
}

/** Columns touched in a row. */
class Span {
  start: number;
  end = 0;

  constructor(readonly width: number) {
    this.start = width;
  }

  /** Adds a filled stretch of a sample line. */
  add(left: number, right: number, coverage: Float32Array): void {
    const a = Math.max(0, left);
    const b = Math.min(this.width, right);
    if (b <= a) return;
    const first = Math.floor(a);
    const last = Math.min(this.width - 1, Math.floor(b));
    if (first < this.start) this.start = first;
    if (last + 1 > this.end) this.end = last + 1;
    if (first === last) {
      coverage[first]! += (b - a) / LINES;
      return;
    }
    coverage[first]! += (first + 1 - a) / LINES;
    for (let x = first + 1; x < last; x++) coverage[x]! += 1 / LINES;
    coverage[last]! += (b - last) / LINES;
  }
}

function collectEdges(polygons: readonly Polygon[], height: number): Edge[] {
  const edges: Edge[] = [];
  const linesMax = height * LINES;
  for (const polygon of polygons) {
    const count = polygon.length / 2;
    for (let i = 0; i < count; i++) {
      const j = (i + 1) % count;
      const [x0, y0] = [polygon[2 * i]!, polygon[2 * i + 1]! * LINES];
      const [x1, y1] = [polygon[2 * j]!, polygon[2 * j + 1]! * LINES];
      if (y0 === y1) continue;
      const down = y1 > y0;
      const [topX, topY, bottomX, bottomY] = down ? [x0, y0, x1, y1] : [x1, y1, x0, y0];
      // A sample line lies in the middle of its strip.
      const from = Math.max(0, Math.ceil(topY - 0.5));
      const to = Math.min(linesMax, Math.ceil(bottomY - 0.5));
      if (from >= to) continue;
      const slope = (bottomX - topX) / (bottomY - topY);
      edges.push({
        from,
        to,
        x: topX + (from + 0.5 - topY) * slope,
        slope,
        winding: down ? 1 : -1,
      });
    }
  }
  return edges;
}

/** Sorted crossings of one sample line; its arrays are kept from line to line. */
class Crossings {
  x: number[] = [];
  winding: number[] = [];
  count = 0;

  of(active: readonly Edge[], line: number): this {
    this.count = 0;
    for (const edge of active) {
      const x = edge.x + (line - edge.from) * edge.slope;
      let at = this.count++;
      while (at > 0 && this.x[at - 1]! > x) {
        this.x[at] = this.x[at - 1]!;
        this.winding[at] = this.winding[at - 1]!;
        at--;
      }
      this.x[at] = x;
      this.winding[at] = edge.winding;
    }
    return this;
  }
}

function sweep({ x, winding, count }: Crossings, coverage: Float32Array, span: Span): void {
  let sum = 0;
  let start = 0;
  for (let i = 0; i < count; i++) {
    const before = sum;
    sum += winding[i]!;
    if (before === 0) start = x[i]!;
    else if (sum === 0) span.add(start, x[i]!, coverage);
  }
}

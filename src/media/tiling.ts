/**
 * Owns the choice of tile grids (InternVL-style dynamic tiling, model-reference preprocessing) and
 * the order of tiles. Pure arithmetic: no pixels.
 */
import { assert } from "@/assert.ts";
import { limits } from "@/limits.ts";

/** Columns x rows of tiles that a picture is stretched to. */
export interface Grid {
  readonly columns: number;
  readonly rows: number;
}

/** Bounds of the search: grids have between `minTiles` and `maxTiles` tiles of `tileSize` pixels. */
export interface GridOptions {
  readonly tileSize: number;
  readonly minTiles: number;
  readonly maxTiles: number;
}

/** How a picture becomes tiles. */
export interface TileRequest {
  /** Side of a tile in pixels. */
  readonly tileSize: number;
  readonly maxTiles: number;
  /** Default 1. */
  readonly minTiles?: number;
  /** Appends the whole picture as one tile when the grid has more than one. */
  readonly thumbnail: boolean;
  /** Adds the tiles of a second, complementary grid (see `msacGrid()`). Default false. */
  readonly msac?: boolean;
  /** Turns the picture upright by its EXIF orientation first. */
  readonly applyOrientation: boolean;
  /** Whole picture as one tile: a video frame. Default false. */
  readonly singleTile?: boolean;
  /** Keeps the picture whole, at its own size and aspect (AnyRes); no tiles are cut. */
  readonly whole?: WholeRequest;
}

/** How a whole picture is sized. */
export interface WholeRequest {
  /** Both sides become multiples of this many pixels. */
  readonly multiple: number;
  /** Most squares of that side; larger pictures shrink. */
  readonly squaresMax: number;
}

/** A picture cut into tiles, ready for the vision tower. */
export interface TiledImage {
  readonly tileSize: number;
  /** The first grid; an MSAC picture also holds the tiles of a second one. */
  readonly grid: Grid;
  /** `[tileCount, tileSize, tileSize, 3]` u8; tiles row-major, thumbnail last. */
  readonly tiles: Uint8Array;
  /** Size of the one "tile" of a picture kept whole. */
  readonly whole?: { readonly width: number; readonly height: number };
  readonly tileCount: number;
  /** Hex of a 128-bit content hash per tile: equal tiles have equal hashes. */
  readonly tileHashes: readonly string[];
  /** Width of the picture after orientation, before resizing. */
  readonly sourceWidth: number;
  /** Height of the picture after orientation, before resizing. */
  readonly sourceHeight: number;
}

/** Which grids to cut, in order, and whether a thumbnail ends the list. */
export interface TilePlan {
  readonly grid: Grid;
  /** Grid whose tiles come before the last element of the first grid's list. */
  readonly secondGrid: Grid | undefined;
  readonly thumbnail: boolean;
  readonly tileCount: number;
}

/**
 * The grid whose aspect ratio is nearest to the picture's. Among equally near grids the larger one
 * wins when the picture has more than half of its pixels.
 */
export function chooseGrid(width: number, height: number, options: GridOptions): Grid {
  return nearestGrid({ width, height }, options, () => true);
}

/**
 * Second grid of multi-scale adaptive cropping: the nearest one that does not divide `first` in
 * both directions, so that its cuts fall elsewhere; 1x1 when every candidate divides it.
 */
export function msacGrid(width: number, height: number, first: Grid, options: GridOptions): Grid {
  const divides = (grid: Grid) =>
    first.columns % grid.columns === 0 && first.rows % grid.rows === 0;
  return nearestGrid({ width, height }, options, (grid) => !divides(grid));
}

/** Throws when a request is not one that any caller may make. */
export function assertTileRequest(request: TileRequest): void {
  const { tileSize, maxTiles, minTiles = 1 } = request;
  assertCount("tileSize", tileSize, limits.tileSizeMax);
  assertCount("maxTiles", maxTiles, limits.tilesPerImageMax);
  assertCount("minTiles", minTiles, maxTiles);
}

/** Throws when `value` is not an integer from 1 to `max`. */
export function assertCount(name: string, value: number, max: number): void {
  assert(
    Number.isInteger(value) && value >= 1 && value <= max,
    `${name} ${value} not in 1..${max}`,
  );
}

/** Plans the tiles of a picture of `width` x `height` pixels (upright). */
export function planTiles(width: number, height: number, request: TileRequest): TilePlan {
  const { tileSize, maxTiles, minTiles = 1 } = request;
  if (request.singleTile === true) {
    const grid = { columns: 1, rows: 1 };
    return { grid, secondGrid: undefined, thumbnail: false, tileCount: 1 };
  }
  const options = { tileSize, minTiles, maxTiles };
  const grid = chooseGrid(width, height, options);
  const secondGrid = request.msac === true ? msacGrid(width, height, grid, options) : undefined;
  const thumbnail = request.thumbnail && tilesOf(grid) > 1;
  const tileCount = tilesOf(grid) + (thumbnail ? 1 : 0) +
    (secondGrid === undefined ? 0 : tilesOf(secondGrid));
  return { grid, secondGrid, thumbnail, tileCount };
}

/**
 * Size of a whole picture: the nearest multiples of `multiple` (at least one) that keep the aspect,
 * shrunk until at most `squaresMax` squares remain.
 */
export function wholeSize(
  width: number,
  height: number,
  { multiple, squaresMax }: WholeRequest,
): { width: number; height: number } {
  let scale = Math.min(1, Math.sqrt(squaresMax * multiple * multiple / (width * height)));
  const squares = (length: number) => Math.max(1, Math.round(length * scale / multiple));
  // Rounding both sides up can pass the bound: shrink a little more.
  while (squares(width) * squares(height) > squaresMax) {
    // A side of one square cannot shrink: cut the long one.
    if (squares(width) === 1 || squares(height) === 1) {
      const cut = (length: number) => Math.min(squares(length), squaresMax) * multiple;
      return { width: cut(width), height: cut(height) };
    }
    scale *= 0.99;
  }
  return { width: squares(width) * multiple, height: squares(height) * multiple };
}

function tilesOf(grid: Grid): number {
  return grid.columns * grid.rows;
}

function nearestGrid(
  size: { width: number; height: number },
  options: GridOptions,
  accept: (grid: Grid) => boolean,
): Grid {
  const aspect = size.width / size.height;
  const halfTile = 0.5 * options.tileSize * options.tileSize;
  let best: Grid = { columns: 1, rows: 1 };
  let bestDistance = Infinity;
  for (const grid of candidateGrids(options)) {
    if (!accept(grid)) continue;
    const distance = Math.abs(aspect - grid.columns / grid.rows);
    if (distance < bestDistance) {
      best = grid;
      bestDistance = distance;
    } else if (
      distance === bestDistance && size.width * size.height > halfTile * tilesOf(grid)
    ) {
      best = grid;
    }
  }
  return best;
}

/** All grids within the bounds, by number of tiles. */
function candidateGrids({ minTiles, maxTiles }: GridOptions): Grid[] {
  const grids: Grid[] = [];
  for (let columns = 1; columns <= maxTiles; columns++) {
    for (let rows = 1; rows * columns <= maxTiles; rows++) {
      if (rows * columns >= minTiles) grids.push({ columns, rows });
    }
  }
  return grids.sort((a, b) => tilesOf(a) - tilesOf(b) || a.columns - b.columns);
}

/** Joins the tiles of several cuts into one array. */
export function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

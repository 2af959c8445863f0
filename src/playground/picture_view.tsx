/** One picture with the grid in which the server cuts it drawn over it. */
import type { Picture, TileGrid } from "./picture.ts";

interface PictureViewProps {
  readonly picture: Picture;
  readonly grid: TileGrid | undefined;
}

export function PictureView({ picture, grid }: PictureViewProps) {
  return (
    <figure class="picture">
      <div class="frame">
        <img
          src={picture.url}
          alt={picture.name}
          width={picture.widthPixels}
          height={picture.heightPixels}
        />
        {grid !== undefined && grid.columns * grid.rows > 1 && <GridLines grid={grid} />}
      </div>
      <figcaption>{grid === undefined ? sizeText(picture) : gridText(grid)}</figcaption>
    </figure>
  );
}

/** Lines between the tiles; one unit of the view box is one tile. */
function GridLines({ grid }: { readonly grid: TileGrid }) {
  const columns = Array.from({ length: grid.columns - 1 }, (_, i) => `M${i + 1} 0V${grid.rows}`);
  const rows = Array.from({ length: grid.rows - 1 }, (_, i) => `M0 ${i + 1}H${grid.columns}`);
  const path = [...columns, ...rows].join("");
  return (
    <svg
      class="grid"
      viewBox={`0 0 ${grid.columns} ${grid.rows}`}
      preserveAspectRatio="none"
      aria-hidden="true"
    >
      <path class="under" d={path} />
      <path class="over" d={path} />
    </svg>
  );
}

function sizeText(picture: Picture): string {
  return `${picture.widthPixels} × ${picture.heightPixels}`;
}

/** What the server makes of the picture, in words. */
export function gridText(grid: TileGrid): string {
  const cut = grid.columns * grid.rows;
  const overview = grid.tileCount > cut ? " + overview" : "";
  const tiles = cut === 1 ? "1 tile" : `${grid.columns} × ${grid.rows} tiles${overview}`;
  return grid.tokenCount > 0 ? `${tiles}, ${grid.tokenCount.toLocaleString("en")} tokens` : tiles;
}

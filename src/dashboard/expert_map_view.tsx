/** Experts × nodes of one layer: who owns what, and how much of the layer's tokens it receives. */
import type { ExpertMapBody } from "@/api/cluster.ts";
import type { ClusterWatch, WatchState } from "./cluster_watch.ts";
import { shown } from "./figures.ts";

interface ExpertMapProps {
  readonly state: WatchState;
  readonly watch: ClusterWatch;
}

export function ExpertMapView({ state: { status, map, layer }, watch }: ExpertMapProps) {
  const layers = status?.layers ?? [];
  return (
    <>
      <div class="map-head">
        <label>
          Layer{" "}
          <select
            aria-label="Layer"
            onChange={(event: Event) =>
              watch.showLayer(Number((event.currentTarget as HTMLSelectElement).value))}
          >
            {layers.map((entry) => (
              <option key={entry.layer} value={entry.layer} selected={entry.layer === layer}>
                {entry.layer}
              </option>
            ))}
          </select>
        </label>
        <span class="note">
          A cell: the node owns the expert. The darker, the more tokens the expert receives.
        </span>
      </div>
      {map !== undefined && <HeatMap map={map} nodes={status?.nodes.map(({ id }) => id) ?? []} />}
    </>
  );
}

const GAP = 1;
const ROW = 20;
/** Even cells without tokens show who owns them. */
const FAINTEST = 0.3;

/** Wide cells while they fit a screen. */
function cellWidth(experts: number): number {
  return Math.max(8, Math.min(18, Math.floor(1150 / experts) - GAP));
}

/** Square roots: few experts take most tokens, and the others still differ. */
function darkness(load: number, most: number): number {
  return FAINTEST + (1 - FAINTEST) * Math.sqrt(load / most);
}

function HeatMap({ map, nodes }: { map: ExpertMapBody; nodes: readonly string[] }) {
  const [shownLayer] = map.layers;
  if (shownLayer === undefined) return <p class="note">No plan is in force yet.</p>;
  const { owners, load } = shownLayer;
  // Owners that are gone are rows too: their experts are what is missing.
  const rows = [...new Set([...nodes, ...map.nodes])].sort();
  const cell = cellWidth(owners.length);
  const most = Math.max(...load, 1e-9);
  const total = load.reduce((sum, value) => sum + value, 0);
  return (
    <div class="map-grid">
      <ul class="map-names">
        {rows.map((id) => <li key={id} class={nodes.includes(id) ? "" : "gone"}>{id}</li>)}
        <li class="note">tokens/s</li>
      </ul>
      <div class="scrolled">
        <svg
          class="map"
          width={owners.length * (cell + GAP)}
          height={(rows.length + 1) * (ROW + GAP)}
          role="img"
          aria-label={`Owners of ${owners.length} experts of layer ${shownLayer.layer}`}
        >
          {owners.map((numbers, expert) => {
            const share = total === 0 ? 0 : load[expert]! / total;
            const title = `expert ${expert}: ${
              numbers.map((number) => map.nodes[number]).join(", ") || "no owner"
            }; ${shown(load[expert])} tokens/s, ${(100 * share).toFixed(1)} %`;
            return (
              <g key={expert}>
                {rows.map((id, row) => (
                  <rect
                    key={id}
                    class={cellClass(id, { numbers, map, nodes })}
                    x={expert * (cell + GAP)}
                    y={row * (ROW + GAP)}
                    width={cell}
                    height={ROW}
                    fill-opacity={numbers.some((number) => map.nodes[number] === id)
                      ? darkness(load[expert]!, most)
                      : 1}
                  >
                    <title>{title}</title>
                  </rect>
                ))}
                <rect
                  class="map-load"
                  x={expert * (cell + GAP)}
                  y={rows.length * (ROW + GAP) + ROW * (1 - load[expert]! / most)}
                  width={cell}
                  height={ROW * load[expert]! / most}
                >
                  <title>{title}</title>
                </rect>
              </g>
            );
          })}
        </svg>
      </div>
    </div>
  );
}

function cellClass(
  id: string,
  { numbers, map, nodes }: {
    numbers: readonly number[];
    map: ExpertMapBody;
    nodes: readonly string[];
  },
): string {
  if (!numbers.some((number) => map.nodes[number] === id)) return "map-none";
  return nodes.includes(id) ? "map-owned" : "map-gone";
}

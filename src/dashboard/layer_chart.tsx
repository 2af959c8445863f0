/** Activation entropy and balance of every layer; a click shows the layer's experts. */
import type { ClusterStatusBody } from "@/api/cluster.ts";
import type { ClusterWatch } from "./cluster_watch.ts";

interface LayerChartProps {
  readonly layers: ClusterStatusBody["layers"];
  readonly selected: number | undefined;
  readonly watch: ClusterWatch;
}

/** Balance at which its bar is full. */
const BALANCE_TOP = 2;

export function LayerChart({ layers, selected, watch }: LayerChartProps) {
  return (
    <>
      <p class="note">
        <span class="swatch entropy" aria-hidden="true" /> activation entropy, 1 is even use ·{" "}
        <span class="swatch balance" aria-hidden="true" />{" "}
        balance above 1, largest over mean of the nodes’ time
      </p>
      <div class="layers">
        {layers.map(({ layer, entropy, balance }) => (
          <button
            key={layer}
            type="button"
            class={layer === selected ? "layer selected" : "layer"}
            aria-pressed={layer === selected ? "true" : "false"}
            aria-label={`Layer ${layer}: entropy ${entropy.toFixed(3)}, balance ${
              balance.toFixed(2)
            }`}
            onClick={() => watch.showLayer(layer)}
          >
            <svg viewBox="0 0 24 60" aria-hidden="true">
              <rect class="entropy" x="1" y={60 * (1 - entropy)} width="12" height={60 * entropy} />
              <rect class="balance" x="15" width="8" {...balanceBar(balance)} />
            </svg>
            {layer}
          </button>
        ))}
      </div>
    </>
  );
}

function balanceBar(balance: number): { y: number; height: number } {
  const share = Math.min(1, Math.max(0, (balance - 1) / (BALANCE_TOP - 1)));
  return { y: 60 * (1 - share), height: 60 * share };
}

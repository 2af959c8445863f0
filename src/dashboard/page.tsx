/** The whole page: header, key figures, nodes, expert map and layers. */
import { useSyncExternalStore } from "hono/jsx/dom";
import type { ClusterStatusBody } from "@/api/cluster.ts";
import type { ClusterWatch, WatchState } from "./cluster_watch.ts";
import { ExpertMapView } from "./expert_map_view.tsx";
import { shown } from "./figures.ts";
import { LayerChart } from "./layer_chart.tsx";
import { NodeTable } from "./node_table.tsx";

interface PageProps {
  readonly watch: ClusterWatch;
  readonly rememberKey: (key: string) => void;
}

export function Page({ watch, rememberKey }: PageProps) {
  const state = useSyncExternalStore(watch.subscribe, watch.state);
  const { status } = state;
  return (
    <div class="dashboard">
      <Header state={state} watch={watch} />
      <main>
        {state.server === "locked" && <AccessKey rememberKey={rememberKey} />}
        {state.server === "alone" && (
          <p class="wide-notice">
            This server computes all experts itself. Start it with <code>--cluster</code>{" "}
            to see shards here.
          </p>
        )}
        {status !== undefined && status.problem !== null && (
          <p class="wide-notice bad" role="alert">New requests are refused: {status.problem}</p>
        )}
        {state.notice !== undefined && <p class="wide-notice" role="status">{state.notice}</p>}
        {status !== undefined && <Overview state={state} watch={watch} status={status} />}
      </main>
    </div>
  );
}

interface OverviewProps {
  readonly state: WatchState;
  readonly watch: ClusterWatch;
  readonly status: ClusterStatusBody;
}

function Overview({ state, watch, status }: OverviewProps) {
  return (
    <>
      <KeyFigures status={status} />
      <section aria-label="Nodes">
        <h2>Nodes</h2>
        <NodeTable status={status} heartbeats={state.heartbeats} watch={watch} />
      </section>
      <section aria-label="Experts">
        <h2>Experts × nodes</h2>
        <ExpertMapView state={state} watch={watch} />
      </section>
      <section aria-label="Layers">
        <h2>Layers</h2>
        <LayerChart layers={status.layers} selected={state.layer} watch={watch} />
      </section>
    </>
  );
}

const serverLabels = {
  connecting: "Connecting",
  live: "Live",
  locked: "API key needed",
  alone: "No cluster",
  offline: "Not reachable",
};

function Header({ state, watch }: { state: WatchState; watch: ClusterWatch }) {
  const { server, status } = state;
  const isServing = server === "live" && status?.problem === null;
  const dot = server === "live" ? (isServing ? "ready" : "offline") : server;
  return (
    <header class="bar">
      <h1 class="brand">
        <svg viewBox="0 0 32 32" aria-hidden="true">
          <path d="M15 4v17H5zM18 9v12h8zM4 24h24l-4 5H8z" />
        </svg>
        <span>Cluster</span>
      </h1>
      <span class={`status ${dot}`} role="status">
        <span class="dot" aria-hidden="true" />
        <span class="status-text">
          {server === "live" && !isServing ? "Not serving" : serverLabels[server]}
        </span>
      </span>
      <span class="spacer" />
      <a class="link" href="/">Playground</a>
      <button
        type="button"
        class="quiet"
        disabled={server !== "live" || status?.rebalancing === true}
        onClick={() => void watch.rebalance()}
      >
        {status?.rebalancing === true ? "Rebalancing" : "Rebalance"}
      </button>
    </header>
  );
}

function AccessKey({ rememberKey }: { rememberKey: (key: string) => void }) {
  return (
    <form
      class="wide-notice"
      onSubmit={(event: Event) => {
        event.preventDefault();
        const form = event.currentTarget as HTMLFormElement;
        rememberKey(String(new FormData(form).get("key") ?? "").trim());
      }}
    >
      <label>
        API key <input type="password" name="key" autocomplete="off" />
      </label>
      <button type="submit" class="quiet">Use key</button>
      <small>Kept in this tab only</small>
    </form>
  );
}

interface Figure {
  readonly name: string;
  readonly value: string;
  readonly note: string;
  readonly isBad?: boolean;
}

function keyFigures(status: ClusterStatusBody): Figure[] {
  const { calls, plans, tokens_per_second: rows } = status;
  const hasLoad = rows.prefill + rows.decode + rows.vision > 0;
  const measured = (value: number, digits: number) => hasLoad ? value.toFixed(digits) : "–";
  return [
    {
      name: "Epoch",
      value: `${status.epoch}`,
      note: `${status.phase}, ${shown(plans.copies)} copied, ${shown(plans.drops)} dropped`,
    },
    {
      name: "Coverage",
      value: status.uncovered === 0 ? "complete" : `${status.uncovered} missing`,
      note: status.under_replicated > 0
        ? `${status.under_replicated} of ${status.experts} have fewer than ${status.replicas} copies`
        : `${status.experts} experts, ${status.single} with one owner`,
      isBad: status.uncovered > 0,
    },
    {
      name: "Balance",
      value: measured(status.balance, 2),
      note: `largest over mean; planned ${status.planned_balance.toFixed(2)}`,
    },
    { name: "Entropy", value: measured(status.entropy, 3), note: "of activation, 1 is even" },
    {
      name: "Expert rows/s",
      value: shown(rows.prefill + rows.decode + rows.vision),
      note: `${shown(rows.decode)} decode, ${shown(rows.prefill)} prompt`,
    },
    {
      name: "Retries, hedges",
      value: `${shown(calls.retries)}, ${shown(calls.hedged_rows)}`,
      note: `of ${shown(calls.calls)} calls; hedges in rows`,
    },
    {
      name: "Failed layers",
      value: shown(calls.failures),
      note: `of ${shown(calls.layers)}; ${shown(calls.fallbacks)} from disk`,
      isBad: calls.failures > 0,
    },
  ];
}

function KeyFigures({ status }: { status: ClusterStatusBody }) {
  return (
    <dl class="figures">
      {keyFigures(status).map(({ name, value, note, isBad }) => (
        <div key={name} class={isBad ? "figure bad" : "figure"}>
          <dt>{name}</dt>
          <dd>{value}</dd>
          <dd class="note">{note}</dd>
        </div>
      ))}
    </dl>
  );
}

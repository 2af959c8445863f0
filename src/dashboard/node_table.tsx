/** The nodes as a table, which narrow screens show as cards: state, room, times, work, orders. */
import { useState } from "hono/jsx/dom";
import type { ClusterStatusBody } from "@/api/cluster.ts";
import type { ClusterWatch, WatchState } from "./cluster_watch.ts";
import { type NodeBody, nodeState, percent, shown } from "./figures.ts";

interface NodeTableProps {
  readonly status: ClusterStatusBody;
  readonly heartbeats: WatchState["heartbeats"];
  readonly watch: ClusterWatch;
}

const heads = [
  ...["Node", "State", "Experts", "Heartbeat ms", "Call ms p50 / p95", "Rows/s", "Busy"],
  ...["Calls", "Retries", "Hedges", ""],
];

export function NodeTable({ status, heartbeats, watch }: NodeTableProps) {
  return (
    <>
      <div class="scrolled">
        <table class="nodes">
          <thead>
            <tr>{heads.map((head) => <th key={head} scope="col">{head}</th>)}</tr>
          </thead>
          <tbody>
            {status.nodes.map((node) => (
              <NodeRow
                key={node.id}
                node={node}
                heartbeats={heartbeats.get(node.id) ?? []}
                watch={watch}
              />
            ))}
          </tbody>
        </table>
      </div>
      {status.nodes.length === 0 && <p class="note">No shard is connected.</p>}
      {status.silent.map(({ address, problem }) => (
        <p key={address} class="note bad">No shard at {address}: {problem}</p>
      ))}
    </>
  );
}

interface NodeRowProps {
  readonly node: NodeBody;
  readonly heartbeats: readonly number[];
  readonly watch: ClusterWatch;
}

function NodeRow({ node, heartbeats, watch }: NodeRowProps) {
  const { text, mood } = nodeState(node);
  const { calls, round_trips: trips } = node;
  return (
    <tr>
      <th scope="row">
        {node.id}
        <small>{node.address}</small>
        <small>{node.numeric_class}</small>
      </th>
      <td data-head="State">
        <span class={`state ${mood}`}>
          <span class="dot" aria-hidden="true" />
          {text}
        </span>
        {node.problem !== null && <small class="problem">{node.problem}</small>}
      </td>
      <td data-head="Experts">
        <Room node={node} />
      </td>
      <td data-head="Heartbeat ms">
        <Sparkline values={heartbeats} /> {shown(node.heartbeat_ms)}
      </td>
      <td data-head="Call ms p50 / p95">{shown(trips?.p50_ms)} / {shown(trips?.p95_ms)}</td>
      <td data-head="Rows/s">
        {shown(node.load)} <small>of {shown(node.speed)}</small>
      </td>
      <td data-head="Busy">{percent(node.busy)}</td>
      <td data-head="Calls">{shown(calls.first + calls.retry + calls.hedge)}</td>
      <td data-head="Retries">{shown(calls.retry)}</td>
      <td data-head="Hedges">{shown(calls.hedge)}</td>
      <td>
        <DrainButton node={node} watch={watch} />
      </td>
    </tr>
  );
}

/** How much of the memory is taken: what the plan gives, and what is loaded beyond or short of it. */
function Room({ node: { planned, held, capacity } }: { node: NodeBody }) {
  const share = (count: number) => capacity === 0 ? 0 : Math.min(100, 100 * count / capacity);
  return (
    <>
      <svg
        class="room"
        viewBox="0 0 100 8"
        preserveAspectRatio="none"
        role="img"
        aria-label={`${held} of ${capacity} experts loaded, ${planned} planned`}
      >
        <rect class="room-all" width="100" height="8" />
        <rect class="room-held" width={share(held)} height="8" />
        <rect class="room-planned" width={share(Math.min(planned, held))} height="8" />
      </svg>{" "}
      {planned} <small>of {capacity}</small>
    </>
  );
}

/** The last heartbeats; its height is twice their median, so that outliers stand out. */
function Sparkline({ values }: { values: readonly number[] }) {
  if (values.length < 2) return <svg class="spark" viewBox="0 0 60 16" aria-hidden="true" />;
  const sorted = [...values].sort((a, b) => a - b);
  const top = Math.max(2 * sorted[Math.floor(sorted.length / 2)]!, 0.001);
  const points = values.map((value, i) => {
    const x = 60 - (values.length - 1 - i);
    return `${x},${(16 - 15 * Math.min(1, value / top)).toFixed(1)}`;
  });
  return (
    <svg class="spark" viewBox="0 0 60 16" aria-hidden="true">
      <polyline points={points.join(" ")} />
    </svg>
  );
}

/** Asks a second time before a node is emptied. */
function DrainButton({ node, watch }: { node: NodeBody; watch: ClusterWatch }) {
  const [isSure, setSure] = useState(false);
  if (node.draining) {
    return (
      <button type="button" class="quiet" onClick={() => void watch.drain(node.id, false)}>
        Take again
      </button>
    );
  }
  const drain = () => {
    setSure(!isSure);
    if (isSure) void watch.drain(node.id, true);
  };
  return (
    <button
      type="button"
      class={isSure ? "quiet sure" : "quiet"}
      aria-label={`Drain ${node.id}${isSure ? ", really" : ""}`}
      onClick={drain}
      onBlur={() => setSure(false)}
    >
      {isSure ? "Really drain" : "Drain"}
    </button>
  );
}

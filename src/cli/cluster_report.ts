/** A cluster's status as lines for the terminal. */
import type { ClusterStatusBody } from "@/api/cluster.ts";
import { byteText, shortNumber, textTable } from "@/text_table.ts";

type NodeBody = ClusterStatusBody["nodes"][number];

/** One word for how a node is; the worst thing wins. */
export function nodeState(node: NodeBody): string {
  if (!node.connected) return "lost";
  if (node.circuit !== "closed") return `circuit ${node.circuit}`;
  if (node.draining) return node.planned + node.held === 0 ? "drained" : "draining";
  return "ok";
}

export function statusLines(status: ClusterStatusBody): string[] {
  const { prefill, decode, vision } = status.tokens_per_second;
  const { calls, plans } = status;
  return [
    status.problem === null ? "serving" : `NOT SERVING: ${status.problem}`,
    `epoch ${status.epoch}, ${status.phase}, planned by ${status.planner ?? "nobody"} ` +
    `(${plans.published} plans, ${plans.copies} copies, ${plans.drops} drops, ` +
    `${plans.given_up} given up)`,
    `${status.experts} experts: ${status.uncovered} without owner, ${status.single} with one, ` +
    `${status.under_replicated} with fewer than ${status.replicas} asked for`,
    prefill + decode + vision === 0
      ? "balance and activation entropy show once tokens flow"
      : `balance ${status.balance.toFixed(3)} (largest over mean; the plan allows ` +
        `${status.planned_balance.toFixed(3)}), activation entropy ${
          status.entropy.toFixed(3)
        } of 1`,
    `expert rows per second: ${shortNumber(prefill)} prompt, ${shortNumber(decode)} decode, ` +
    `${shortNumber(vision)} vision`,
    ...frontLines(status),
    `${calls.layers} layer calls, ${calls.calls} frames, ${calls.retries} retries, ` +
    `${calls.hedged_rows} hedged rows, ${calls.fallbacks} from disk, ${calls.failures} failed`,
    "",
    ...nodeLines(status),
    ...status.nodes.flatMap(({ id, problem }) => problem === null ? [] : [`${id}: ${problem}`]),
    ...status.silent.map(({ address, problem }) => `no shard at ${address}: ${problem}`),
    "",
    ...layerLines(status),
  ];
}

/** Each front's share of the work, where there are several. */
function frontLines({ fronts }: ClusterStatusBody): string[] {
  if (fronts.length < 2) return [];
  const shares = fronts.map(({ id, rows_per_second: rows }) => `${id} ${shortNumber(rows)}`);
  return [`fronts, expert rows per second: ${shares.join(", ")}`];
}

const columns: readonly { head: string; left?: true; cell: (node: NodeBody) => string }[] = [
  { head: "node", left: true, cell: ({ id }) => id },
  { head: "address", left: true, cell: ({ address }) => address },
  { head: "class", left: true, cell: (node) => node.numeric_class },
  { head: "state", left: true, cell: nodeState },
  { head: "planned", cell: ({ planned }) => `${planned}` },
  { head: "held", cell: ({ held }) => `${held}` },
  { head: "fit", cell: ({ capacity }) => `${capacity}` },
  { head: "memory", cell: (node) => byteText(node.memory_bytes) },
  { head: "rows/s", cell: ({ speed }) => speed.toFixed(0) },
  { head: "load", cell: ({ load }) => shortNumber(load) },
  { head: "busy", cell: ({ busy }) => busy === null ? "–" : `${(100 * busy).toFixed(0)} %` },
  { head: "ping ms", cell: (node) => numberOrDash(node.heartbeat_ms) },
  { head: "p50 ms", cell: (node) => numberOrDash(node.round_trips?.p50_ms ?? null) },
  { head: "p95 ms", cell: (node) => numberOrDash(node.round_trips?.p95_ms ?? null) },
  { head: "calls", cell: ({ calls }) => `${calls.first + calls.retry + calls.hedge}` },
  { head: "retries", cell: ({ calls }) => `${calls.retry}` },
  { head: "hedges", cell: ({ calls }) => `${calls.hedge}` },
];

function numberOrDash(value: number | null): string {
  return value === null ? "–" : shortNumber(value);
}

function nodeLines({ nodes }: ClusterStatusBody): string[] {
  if (nodes.length === 0) return ["no shard is connected"];
  const right = new Set(columns.flatMap(({ left }, i) => left ? [] : [i]));
  const rows = nodes.map((node) => columns.map(({ cell }) => cell(node)));
  return textTable([columns.map(({ head }) => head), ...rows], right);
}

const LAYERS_PER_LINE = 6;

function layerLines({ layers }: ClusterStatusBody): string[] {
  const cells = layers.map(({ layer, entropy, balance }) =>
    `${layer}: ${entropy.toFixed(3)} ${balance.toFixed(2)}`
  );
  const rows: string[][] = [];
  for (let i = 0; i < cells.length; i += LAYERS_PER_LINE) {
    rows.push(cells.slice(i, i + LAYERS_PER_LINE));
  }
  return ["layer: activation entropy, balance", ...textTable(rows)];
}

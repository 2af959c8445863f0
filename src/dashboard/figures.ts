/** Numbers as the page shows them, and one word for how a node is. */
import type { ClusterStatusBody } from "@/api/cluster.ts";

export type NodeBody = ClusterStatusBody["nodes"][number];

/** Three significant digits; thousands as k, M, G. "–" for what is not known. */
export function shown(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  const steps = [[1e9, "G"], [1e6, "M"], [1e4, "k"]] as const;
  for (const [size, unit] of steps) {
    if (value >= size) return `${trimmed(value / (unit === "k" ? 1e3 : size))}${unit}`;
  }
  return trimmed(value);
}

function trimmed(value: number): string {
  if (value >= 100) return value.toFixed(0);
  if (Number.isInteger(value)) return `${value}`;
  return value.toFixed(value >= 10 ? 1 : value >= 1 ? 2 : 3);
}

export function percent(share: number | null): string {
  return share === null ? "–" : `${Math.round(100 * share)} %`;
}

/** What a node is, and how much that should worry. The worst thing wins. */
export function nodeState(node: NodeBody): { text: string; mood: "good" | "wait" | "bad" } {
  if (!node.connected) return { text: "lost", mood: "bad" };
  if (node.problem !== null) return { text: "problem", mood: "bad" };
  if (node.circuit !== "closed") return { text: `circuit ${node.circuit}`, mood: "bad" };
  if (!node.draining) return { text: "serving", mood: "good" };
  return { text: node.planned + node.held === 0 ? "drained" : "draining", mood: "wait" };
}

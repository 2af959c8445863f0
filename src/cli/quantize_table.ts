/** What a packing made of a checkpoint: sizes and rounding errors by part, as a table. */
import type { PackedWeight } from "@/model/packing_plan.ts";
import { roleOf } from "@/weights/precision.ts";

const partOfRole: Readonly<Record<string, string>> = {
  "vision.patch": "patch projection",
  "decoder.embedding": "embedding",
  "decoder.head": "head",
  "decoder.moeGate": "router",
};

/** Part of the model that a weight belongs to, as the table calls it. */
function partOf({ name, vector }: PackedWeight): string {
  if (vector) return "norms, biases, positions";
  const role = roleOf(name);
  const [owner, what] = role.split(".");
  if (partOfRole[role]) return partOfRole[role];
  if (owner === "vision") return "vision tower";
  if (owner === "adapter") return "adapter";
  if (owner === "expert") return "experts";
  return ["gate", "up", "down"].includes(what!) ? "feed-forward" : "attention";
}

interface TableRow {
  readonly part: string;
  readonly format: string;
  readonly weights: readonly PackedWeight[];
}

/** Rows in the order of the model, one per part and format, and the sum. */
export function quantizeTable(weights: readonly PackedWeight[]): string {
  const groups = Map.groupBy(weights, (weight) => `${partOf(weight)}/${weight.format}`);
  const rows = [...groups.values()].map((group) => ({
    part: partOf(group[0]!),
    format: group[0]!.format,
    weights: group,
  }));
  const header = ["part", "format", "tensors", "size", "error", "worst tensor"];
  const cells = [...rows, { part: "all", format: "", weights }].map(cellsOf);
  const widths = header.map((title, i) =>
    Math.max(title.length, ...cells.map((row) => row[i]!.length))
  );
  const isNumber = (i: number) => i >= 2 && i <= 4;
  const line = (row: readonly string[]) =>
    row.map((cell, i) => isNumber(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!))
      .join("  ").trimEnd();
  return [header, ...cells].map(line).join("\n");
}

function cellsOf({ part, format, weights }: TableRow): string[] {
  const rounded = weights.filter(({ relativeError }) => relativeError > 0);
  const worst = rounded.toSorted((a, b) => b.relativeError - a.relativeError)[0];
  return [
    part,
    format,
    String(weights.length),
    sizeText(weights.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)),
    rounded.length === 0 ? "-" : percent(meanError(rounded)),
    worst ? `${worst.name} ${percent(worst.relativeError)}` : "",
  ];
}

/** Root of the mean square of the relative errors, weighed by size. */
function meanError(weights: readonly PackedWeight[]): number {
  let [squares, bytes] = [0, 0];
  for (const { relativeError, sizeBytes } of weights) {
    squares += sizeBytes * relativeError ** 2;
    bytes += sizeBytes;
  }
  return Math.sqrt(squares / bytes);
}

const percent = (ratio: number) => `${(100 * ratio).toFixed(2)} %`;

export function sizeText(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(2)} GB`;
  return bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e3).toFixed(1)} kB`;
}

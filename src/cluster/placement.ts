/**
 * Which node owns which experts: the plan as data, its text form and its invariants. How a good
 * one is found is planner.ts; how it comes into force is coordinator.ts.
 */
import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { type ExpertGrid, formatSlots } from "./expert_grid.ts";

export type NodeId = string;

/** What a node offers, as it says in its lease. */
export interface ClusterNode {
  readonly id: NodeId;
  /** (token, expert) rows per second, measured. */
  readonly speed: number;
  /** Memory for experts, and what one expert takes of it. */
  readonly memoryBytes: number;
  readonly expertBytes: number;
  /** What an expert of each layer takes, where layers differ (the largest is `expertBytes`). */
  readonly layerBytes?: readonly number[] | undefined;
  /** Backend, kernel variant, quantisation and format: equal classes compute equal bits. */
  readonly numericClass: string;
  /** Content hash of the experts' weights. */
  readonly weightHash: string;
  /** Finishes its calls, gets no new experts, and leaves when it owns none. */
  readonly draining: boolean;
  /** Slots that it can load; undefined: all of them. */
  readonly offers?: ReadonlySet<number> | undefined;
}

/** Owners of every slot, sorted by id. Epochs only grow; no two plans share one. */
export interface Placement {
  readonly epoch: number;
  readonly owners: readonly (readonly NodeId[])[];
}

/** What a node must have to share the work. */
export interface ExpertIdentity {
  readonly weightHash: string;
  /** undefined: classes may mix, and equal tokens are not promised. */
  readonly numericClass: string | undefined;
}

/** Why a node cannot serve these experts; undefined when it can. */
export function identityProblem(
  node: Pick<ClusterNode, "id" | "weightHash" | "numericClass">,
  identity: ExpertIdentity,
): string | undefined {
  if (node.weightHash !== identity.weightHash) {
    return `Node ${node.id} has weights ${node.weightHash}, not ${identity.weightHash}`;
  }
  if (identity.numericClass === undefined || node.numericClass === identity.numericClass) {
    return undefined;
  }
  return `Node ${node.id} computes as ${node.numericClass}, not ${identity.numericClass}`;
}

type NodeSizes = Pick<ClusterNode, "memoryBytes" | "expertBytes" | "layerBytes">;

/** Bytes of an expert of each layer of the grid, in its order. */
export function layerBytesOf(node: NodeSizes, layers: number): readonly number[] {
  const { expertBytes, layerBytes } = node;
  assert(expertBytes > 0, `an expert takes ${expertBytes} bytes`);
  assert(!layerBytes || layerBytes.length === layers, `${layerBytes?.length} of ${layers} layers`);
  return layerBytes ?? Array.from({ length: layers }, () => expertBytes);
}

/** Experts that fit a node, if it has as many of each layer. */
export function capacityOf(node: NodeSizes): number {
  const { memoryBytes, expertBytes, layerBytes } = node;
  assert(expertBytes > 0, `an expert takes ${expertBytes} bytes`);
  const mean = layerBytes
    ? layerBytes.reduce((sum, bytes) => sum + bytes, 0) / layerBytes.length
    : expertBytes;
  return Math.max(0, Math.floor(memoryBytes / mean));
}

/** Memory that some experts take on a node. */
export function bytesOfSlots(node: NodeSizes, grid: ExpertGrid, slots: Iterable<number>): number {
  const layerBytes = layerBytesOf(node, grid.layers.length);
  let bytes = 0;
  for (const slot of slots) bytes += layerBytes[grid.rowOf(slot)]!;
  return bytes;
}

/** Slots that a plan gives to a node. */
export function slotsOf(placement: Placement | undefined, node: NodeId): Set<number> {
  const slots = new Set<number>();
  placement?.owners.forEach((owners, slot) => {
    if (owners.includes(node)) slots.add(slot);
  });
  return slots;
}

/** Slots without an owner for which `isLive` holds. */
export function uncoveredSlots(
  placement: Placement,
  isLive: (node: NodeId, slot: number) => boolean,
): number[] {
  const slots: number[] = [];
  placement.owners.forEach((owners, slot) => {
    if (!owners.some((node) => isLive(node, slot))) slots.push(slot);
  });
  return slots;
}

/** The error of requests that need experts nobody owns. */
export function coverageError(grid: ExpertGrid, uncovered: readonly number[]): OperatingError {
  assert(uncovered.length > 0, "everything is covered");
  const more = uncovered.length > 1 ? ` and ${uncovered.length - 1} more` : "";
  return new OperatingError(
    "unavailable",
    `No live node owns ${grid.describe(uncovered[0]!)}${more}`,
    { detail: `slots ${formatSlots(uncovered)}`, retryAfterSeconds: 1 },
  );
}

/** A plan as JSON text: node names once, owners as their numbers. */
export function encodePlacement(placement: Placement): string {
  const nodes = [...new Set(placement.owners.flat())].sort();
  const numberOf = new Map(nodes.map((node, i) => [node, i]));
  const owners = placement.owners.map((list) => list.map((node) => numberOf.get(node)!));
  return JSON.stringify({ epoch: placement.epoch, nodes, owners });
}

/** The inverse of `encodePlacement`. Throws SyntaxError when the text is no plan of `grid`. */
export function decodePlacement(text: string, grid: ExpertGrid): Placement {
  const fail = (reason: string) => new SyntaxError(`Cannot read the placement: ${reason}`);
  const value: unknown = JSON.parse(text);
  if (typeof value !== "object" || value === null) throw fail("it is no object");
  const { epoch, nodes, owners } = value as Record<string, unknown>;
  if (!Number.isSafeInteger(epoch) || (epoch as number) < 1) throw fail(`epoch ${epoch}`);
  const isNames = Array.isArray(nodes) && nodes.length <= limits.clusterNodesMax &&
    nodes.every((node) => typeof node === "string");
  if (!isNames) throw fail("its nodes are no list of names");
  if (!Array.isArray(owners) || owners.length !== grid.size) {
    throw fail(`it has not ${grid.size} experts`);
  }
  const names = owners.map((list: unknown, slot) => {
    const isList = Array.isArray(list) && new Set(list).size === list.length &&
      list.every((i) => Number.isInteger(i) && i >= 0 && i < nodes.length);
    if (!isList) throw fail(`owners of slot ${slot}`);
    return (list as number[]).map((i) => nodes[i] as NodeId).sort();
  });
  return { epoch: epoch as number, owners: names };
}

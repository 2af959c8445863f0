/** Members and plans as text for a key-value store. Reads nothing on trust. */
import { type ExpertGrid, formatSlots, parseSlots } from "./expert_grid.ts";
import type { Member, PlanProposal, PublishedPlan } from "./membership.ts";
import { type ClusterNode, decodePlacement, encodePlacement } from "./placement.ts";

/** Names of nodes are keys of stores, labels of metrics and parts of file names. */
const nodeIdPattern = /^[A-Za-z0-9_-]{1,64}$/;

/** Throws RangeError for a name that cannot be a key. */
export function checkNodeId(id: string): void {
  if (nodeIdPattern.test(id)) return;
  throw new RangeError(
    `Cannot use node name "${id}": 1 to 64 letters, digits, - and _ are allowed`,
  );
}

/** `fence` is undefined in the first text of a lease: the store's revision becomes the fence. */
export function encodeMember(member: Member, fence: number | undefined): string {
  const { node } = member;
  const offers = node?.offers && formatSlots(node.offers);
  return JSON.stringify({ ...member, node: node && { ...node, offers }, fence });
}

/** The inverse of `encodeMember`. Throws SyntaxError. */
export function decodeMember(
  text: string,
  grid: ExpertGrid,
): { member: Member; fence: number | undefined } {
  const value = object(JSON.parse(text), "member");
  const { role, fence } = value;
  if (role !== "front" && role !== "shard") throw problem("role", role);
  if (fence !== undefined) count(value, "fence");
  const id = string(value, "id");
  checkNodeId(id);
  const node = value.node === undefined ? undefined : decodeNode(object(value.node, "node"), grid);
  if (node && node.id !== id) throw problem("node.id", node.id);
  const member: Member = {
    id,
    incarnation: count(value, "incarnation"),
    role,
    address: string(value, "address"),
    node,
  };
  return { member, fence: fence as number | undefined };
}

function decodeNode(value: Record<string, unknown>, grid: ExpertGrid): ClusterNode {
  if (typeof value.draining !== "boolean") throw problem("draining", value.draining);
  return {
    id: string(value, "id"),
    speed: positive(value, "speed"),
    memoryBytes: count(value, "memoryBytes"),
    expertBytes: positive(value, "expertBytes"),
    numericClass: string(value, "numericClass"),
    weightHash: string(value, "weightHash"),
    draining: value.draining,
    offers: value.offers === undefined ? undefined : parseSlots(string(value, "offers"), grid.size),
  };
}

export function encodePlan({ planner, fence, placement }: PlanProposal): string {
  return JSON.stringify({ planner, fence, placement: encodePlacement(placement) });
}

/** The inverse of `encodePlan`, with the revision that the store gave it. Throws SyntaxError. */
export function decodePlan(
  text: string,
  args: { grid: ExpertGrid; revision: number },
): PublishedPlan {
  const value = object(JSON.parse(text), "plan");
  return {
    placement: decodePlacement(string(value, "placement"), args.grid),
    planner: string(value, "planner"),
    fence: count(value, "fence"),
    revision: args.revision,
  };
}

function problem(field: string, value: unknown): SyntaxError {
  return new SyntaxError(`Cannot read ${field}: ${JSON.stringify(value)?.slice(0, 80)}`);
}

function object(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw problem(field, value);
  }
  return value as Record<string, unknown>;
}

function string(from: Record<string, unknown>, field: string): string {
  const value = from[field];
  if (typeof value !== "string") throw problem(field, value);
  return value;
}

function count(from: Record<string, unknown>, field: string): number {
  const value = from[field];
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw problem(field, value);
  return value as number;
}

function positive(from: Record<string, unknown>, field: string): number {
  const value = from[field];
  if (typeof value !== "number" || !(value > 0) || value === Infinity) throw problem(field, value);
  return value;
}

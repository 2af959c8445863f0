/** Members and plans as text for a key-value store. Reads nothing on trust. */
import { type ExpertGrid, formatSlots, parseSlots } from "./expert_grid.ts";
import type { Member, PlanProposal, PublishedPlan } from "./membership.ts";
import { type ClusterNode, decodePlacement, encodePlacement } from "./placement.ts";
import {
  countIn,
  fieldProblem,
  type Fields,
  objectOf,
  positiveIn,
  stringIn,
} from "./text_fields.ts";

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
  const value = objectOf(JSON.parse(text), "member");
  const { role, fence } = value;
  if (role !== "front" && role !== "shard") throw fieldProblem("role", role);
  if (fence !== undefined) countIn(value, "fence");
  const id = stringIn(value, "id");
  checkNodeId(id);
  const node = value.node === undefined
    ? undefined
    : decodeNode(objectOf(value.node, "node"), grid);
  if (node && node.id !== id) throw fieldProblem("node.id", node.id);
  const member: Member = {
    id,
    incarnation: countIn(value, "incarnation"),
    role,
    address: stringIn(value, "address"),
    node,
    ...(value.rebalances !== undefined && { rebalances: countIn(value, "rebalances") }),
  };
  return { member, fence: fence as number | undefined };
}

function decodeNode(value: Fields, grid: ExpertGrid): ClusterNode {
  if (typeof value.draining !== "boolean") throw fieldProblem("draining", value.draining);
  return {
    id: stringIn(value, "id"),
    speed: positiveIn(value, "speed"),
    memoryBytes: countIn(value, "memoryBytes"),
    expertBytes: positiveIn(value, "expertBytes"),
    ...(value.layerBytes !== undefined && { layerBytes: layerBytesIn(value, grid) }),
    numericClass: stringIn(value, "numericClass"),
    weightHash: stringIn(value, "weightHash"),
    draining: value.draining,
    offers: value.offers === undefined
      ? undefined
      : parseSlots(stringIn(value, "offers"), grid.size),
  };
}

function layerBytesIn(value: Fields, grid: ExpertGrid): number[] {
  const { layerBytes, expertBytes } = value;
  const isList = Array.isArray(layerBytes) && layerBytes.length === grid.layers.length &&
    layerBytes.every((bytes) => Number.isSafeInteger(bytes) && bytes > 0 && bytes <= expertBytes!);
  if (!isList) throw fieldProblem("layerBytes", layerBytes);
  return layerBytes as number[];
}

export function encodePlan({ planner, fence, placement }: PlanProposal): string {
  return JSON.stringify({ planner, fence, placement: encodePlacement(placement) });
}

/** The inverse of `encodePlan`, with the revision that the store gave it. Throws SyntaxError. */
export function decodePlan(
  text: string,
  args: { grid: ExpertGrid; revision: number },
): PublishedPlan {
  const value = objectOf(JSON.parse(text), "plan");
  return {
    placement: decodePlacement(stringIn(value, "placement"), args.grid),
    planner: stringIn(value, "planner"),
    fence: countIn(value, "fence"),
    revision: args.revision,
  };
}

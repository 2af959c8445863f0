/**
 * What a token costs on the network, before there is one: draws tokens whose experts are even, lets
 * the router choose among the planned owners, and adds up the frames that it would send.
 */
import { seededRandom } from "@/random.ts";
import { AssignedWork } from "./assigned_work.ts";
import { frameBytesOfCall } from "./call_frames.ts";
import type { ExpertGrid } from "./expert_grid.ts";
import type { NodeId } from "./placement.ts";
import { chooseReplicas, RouteTable } from "./replica_choice.ts";
import type { RowEncodingName } from "./row_encoding.ts";

export interface WireRequest {
  readonly grid: ExpertGrid;
  readonly owners: readonly (readonly NodeId[])[];
  /** Experts that each token chooses, and width of its row. */
  readonly choices: number;
  readonly width: number;
  readonly encoding: RowEncodingName;
  readonly roundTripMs: number;
  readonly bitsPerSecond: number;
}

export interface WireEstimate {
  /** Nodes asked for one token in one layer: the mean. */
  readonly nodesAsked: number;
  /** Of one token in all layers, on the front's own link. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** Of one token: round trips of all layers, and bytes over the front's link. */
  readonly waitMs: number;
  readonly transferMs: number;
}

const TOKENS = 64;

/** Throws nothing: a plan that lacks experts is estimated without them. */
export function estimateWire(request: WireRequest): WireEstimate {
  const { grid, owners, choices, width, encoding, roundTripMs, bitsPerSecond } = request;
  const random = seededRandom(1);
  const table = new RouteTable({ grid, placement: { epoch: 1, owners } });
  const work = new AssignedWork({ halfLifeMs: Infinity });
  let [frames, sent, received] = [0, 0, 0];
  for (let token = 0; token < TOKENS; token++) {
    for (const layer of grid.layers) {
      const { expertsOf } = chooseReplicas({
        ...{ table, layer, local: undefined, spreadRows: Infinity },
        demand: drawExperts(grid.experts, { choices, random }),
        isUsable: () => true,
        busySeconds: () => 0,
        speed: () => 1,
        workedSeconds: (node) => work.seconds(layer, table.nodes[node]!),
      });
      for (const [node, { length: pairs }] of expertsOf.entries()) {
        if (pairs === 0) continue;
        work.add(layer, table.nodes[node]!, pairs);
        const shape = { rows: 1, pairs, width, encoding, reply: "pairs" } as const;
        const bytes = frameBytesOfCall({ ...shape, replyEncoding: "f32" });
        frames += 1;
        sent += bytes.call;
        received += bytes.result;
      }
    }
  }
  return {
    nodesAsked: frames / TOKENS / grid.layers.length,
    sentBytes: sent / TOKENS,
    receivedBytes: received / TOKENS,
    waitMs: grid.layers.length * roundTripMs,
    transferMs: 8000 * (sent + received) / TOKENS / bitsPerSecond,
  };
}

/** Different experts, one row each. */
function drawExperts(
  experts: number,
  { choices, random }: { choices: number; random: () => number },
) {
  const drawn = new Set<number>();
  while (drawn.size < Math.min(choices, experts)) drawn.add(Math.floor(random() * experts));
  return [...drawn].sort((a, b) => a - b).map((expert) => ({ expert, rows: 1 }));
}

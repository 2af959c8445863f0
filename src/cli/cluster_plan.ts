/**
 * `cluster plan`: packs a model's experts onto boxes that exist only on paper, with the planner that
 * will do it for real, and adds up what a token costs on the network.
 */
import { type MemoryPlan, planMemory, planText } from "@/engine/memory_plan.ts";
import { ExpertGrid } from "@/cluster/expert_grid.ts";
import { type Fit, planFit } from "@/cluster/plan_fit.ts";
import { defaultPlanPolicy } from "@/cluster/planner.ts";
import { estimateWire, type WireEstimate } from "@/cluster/wire_estimate.ts";
import { limits } from "@/limits.ts";
import { ExpertStore } from "@/model/expert_store.ts";
import { precisionLabel } from "@/weights/precision.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { namesIn } from "@/weights/source.ts";
import { type Flags, UsageError } from "./flags.ts";
import { parseSize } from "./sizes.ts";

import { precisionFlags } from "./precision_flags.ts";
import { byteText, shortNumber, textTable } from "@/text_table.ts";

/** One box of `--nodes`. */
export interface Box {
  readonly id: string;
  /** Memory of the whole box, and the part that a shard takes for experts. */
  readonly boxBytes: number;
  readonly memoryBytes: number;
  readonly speed: number;
}

export interface ClusterPlan {
  readonly fits: boolean;
  readonly model: {
    readonly layers: number;
    readonly experts: number;
    readonly expertsPerToken: number;
    readonly width: number;
    readonly precision: string;
    /** Of one expert, smallest and largest of all layers, and of all experts once. */
    readonly expertBytesMin: number;
    readonly expertBytesMax: number;
    readonly totalBytes: number;
    /** Sizes are those of the files, or follow from config.json alone. */
    readonly source: "files" | "config";
  };
  readonly front: MemoryPlan;
  readonly boxes: readonly Box[];
  readonly replicas: number;
  readonly fit: Omit<Fit, "owners">;
  readonly wire: WireEstimate & {
    readonly roundTripMs: number;
    readonly megabitsPerSecond: number;
  };
  /** Seconds in which the fullest box reads its experts. */
  readonly loadSeconds: number;
}

/** e.g. "3x8GiB,16GiB:2": three boxes of 8 GiB, and one of 16 GiB that is twice as fast. */
export function parseBoxes(text: string): Box[] {
  const boxes: Box[] = [];
  for (const part of text.split(",")) {
    const match = /^(?:(\d{1,3})x)?([\d.]+[a-z]+)(?::(\d+(?:\.\d+)?))?$/i.exec(part);
    const [, count = "1", size = "", speed = "1"] = match ?? [];
    const boxBytes = parseSize(size);
    if (boxBytes === undefined || Number(count) === 0 || Number(speed) === 0) {
      throw new UsageError(
        `--nodes has "${part}", expected SIZE, COUNTxSIZE or SIZE:SPEED, e.g. 3x8GiB`,
      );
    }
    for (let i = 0; i < Number(count); i++) {
      const id = `box-${`${boxes.length + 1}`.padStart(2, "0")}`;
      const memoryBytes = Math.floor(boxBytes * limits.expertMemoryShare);
      boxes.push({ id, boxBytes, memoryBytes, speed: Number(speed) });
    }
  }
  if (boxes.length > limits.clusterNodesMax) {
    throw new UsageError(
      `--nodes names ${boxes.length} boxes, expected at most ${limits.clusterNodesMax}`,
    );
  }
  return boxes;
}

/** Throws OperatingError for a folder without experts. */
export async function planCluster(flags: Flags): Promise<{ report: ClusterPlan; lines: string[] }> {
  const [model, another] = flags.list("model");
  if (model === undefined || another !== undefined) {
    throw new UsageError("cluster plan takes one --model DIR; its config.json is enough");
  }
  const boxes = parseBoxes(flags.string("nodes") ?? "4x8GiB");
  const { store, folder, synthetic } = await openStore(flags, model);
  store.close();
  const { layers, moe, layerBytes, precision, config } = store;
  const replicas = flags.number("replicas") ?? 1;
  const request = { layers, experts: moe.experts, layerBytes, replicas, spareCopies: 0 };
  const { owners, ...fit } = planFit({ ...request, nodes: boxes });
  const roundTripMs = Number(flags.string("rtt-ms") ?? "0.3");
  const megabitsPerSecond = flags.number("mbit") ?? 1000;
  const width = config.decoder.hiddenWidth;
  const wire = estimateWire({
    ...{ grid: new ExpertGrid({ layers, experts: moe.experts }), owners, width, roundTripMs },
    choices: moe.expertsPerToken,
    encoding: precision.quantisation === "none" ? "f32" : "int8",
    bitsPerSecond: 1e6 * megabitsPerSecond,
  });
  const front = await planMemory({
    ...precisionFlags(flags),
    folder,
    synthetic,
    cluster: {},
  });
  const fullest = Math.max(...fit.nodes.map(({ bytes }) => bytes));
  const report: ClusterPlan = {
    fits: fit.isCovered && fit.isReplicated,
    model: {
      ...{ layers: layers.length, experts: moe.experts, expertsPerToken: moe.expertsPerToken },
      ...{ width, precision: precisionLabel(precision) },
      expertBytesMin: Math.min(...layerBytes),
      expertBytesMax: Math.max(...layerBytes),
      totalBytes: moe.experts * layerBytes.reduce((sum, bytes) => sum + bytes, 0),
      source: synthetic ? "config" : "files",
    },
    ...{ front, boxes, replicas, fit },
    wire: { ...wire, roundTripMs, megabitsPerSecond },
    loadSeconds: fullest / defaultPlanPolicy.loadBytesPerSecond,
  };
  return { report, lines: planLines(report) };
}

/** A folder without weights is planned by the shapes that its configuration implies. */
async function openStore(flags: Flags, path: string) {
  const folder = diskFolder(path.replace(/^[\w.:-]+=/, ""));
  const names = await namesIn(folder);
  const hasWeights = names.some((name) =>
    /\.(safetensors|bin|json)$/.test(name) && name !== "config.json"
  );
  const synthetic = flags.on("synthetic") || !hasWeights;
  const store = await ExpertStore.open({ folder, synthetic, ...precisionFlags(flags) });
  return { store, folder, synthetic };
}

export function planLines(plan: ClusterPlan): string[] {
  const { model, fit } = plan;
  const { expertBytesMin: least, expertBytesMax: most, totalBytes } = model;
  const each = least === most ? byteText(most) : `${byteText(least)} to ${byteText(most)}`;
  return [
    `${model.layers} layers of ${model.experts} experts, ${model.expertsPerToken} for each token, ` +
    `width ${model.width}, ${model.precision}`,
    `${each} each, ${byteText(totalBytes)} in all ` +
    (model.source === "files" ? "(from the files)" : "(from config.json alone)"),
    "",
    ...boxLines(plan),
    "",
    ...verdictLines(plan),
    `the front, without experts, needs up to ${planText(plan.front)}`,
    // Figures of a plan that lacks experts would flatter it.
    ...(fit.isCovered ? runningLines(plan) : []),
  ];
}

function runningLines(plan: ClusterPlan): string[] {
  return [
    `balance ${plan.fit.balance.toFixed(3)} (largest over mean of the boxes' working time)`,
    `loading takes about ${shortNumber(plan.loadSeconds)} s at 100 MB/s`,
    "",
    ...wireLines(plan),
  ];
}

function boxLines({ boxes, fit }: ClusterPlan): string[] {
  const head = ["box", "memory", "for experts", "speed", "experts", "bytes", "free", "work"];
  const rows = boxes.map(({ boxBytes, memoryBytes, speed }, i) => {
    const { id, experts, bytes, freeBytes, loadShare } = fit.nodes[i]!;
    return [
      ...[id, byteText(boxBytes), byteText(memoryBytes), `${speed}`, `${experts}`],
      ...[byteText(bytes), byteText(freeBytes), `${(100 * loadShare).toFixed(1)} %`],
    ];
  });
  return textTable([head, ...rows], new Set([1, 2, 3, 4, 5, 6, 7]));
}

function verdictLines({ fits, fit, replicas, boxes }: ClusterPlan): string[] {
  const largest = Math.max(...boxes.map(({ memoryBytes }) => memoryBytes));
  const copies = (count: number) => `${count} ${count === 1 ? "copy" : "copies"}`;
  if (fits) {
    return [
      `fits: ${copies(replicas)} of every expert (${fit.replicasMax} would); any ` +
      `${fit.lossesSurvived} of the boxes may be lost at once`,
    ];
  }
  const more = Math.ceil(fit.missingBytes / largest);
  return [
    fit.isCovered
      ? `does not hold ${copies(replicas)} of every expert, only ${copies(fit.replicasMax)}`
      : "does NOT fit: experts are left without a place",
    fit.missingBytes > 0
      ? `missing ${byteText(fit.missingBytes)} for experts: about ${more} more like the largest box`
      : `${replicas} copies need ${replicas} boxes with room`,
  ];
}

function wireLines({ model, wire }: ClusterPlan): string[] {
  const { nodesAsked, sentBytes, receivedBytes, waitMs, transferMs } = wire;
  const ms = waitMs + transferMs;
  return [
    `a token asks ${nodesAsked.toFixed(2)} boxes in each layer; ${byteText(sentBytes)} go out, ` +
    `${byteText(receivedBytes)} come back`,
    `${model.layers} × ${wire.roundTripMs} ms round trips = ${shortNumber(waitMs)} ms, plus ` +
    `${shortNumber(transferMs)} ms on a link of ${wire.megabitsPerSecond} Mbit/s: ` +
    `${shortNumber(ms)} ms for each token before anything is computed`,
    `one stream gets at most ${
      shortNumber(1000 / ms)
    } tokens/s; streams together share the round trips`,
  ];
}

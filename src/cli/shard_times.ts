/**
 * Where the time of a layer call over shards goes, from its trace span. A call is blocked while its
 * shards compute, while frames travel, and while something waits. Shards on one machine share its
 * cores: what one of them waits for because another one computes is computing, of these cores.
 */
import { assert } from "@/assert.ts";
import type { EndedSpan } from "@/telemetry/trace.ts";

/** Times of one layer call in milliseconds; `compute`, `wire` and `wait` add up to `blocked`. */
export interface LayerTimes {
  readonly blocked: number;
  /**
   * The least that these cores need for the kernels of all shards: the slowest shard's time, or
   * everybody's shared out evenly when there are fewer cores than shards.
   */
  readonly compute: number;
  /** On the way to the shard that answers last and back, its and our sockets included. */
  readonly wire: number;
  /** In that shard's queue, and for our own bookkeeping. */
  readonly wait: number;
  /** What is not computing: the cost of sharing. */
  readonly wireAndWait: number;
  /** In the kernels of the shard that answers last, and of all of them together. */
  readonly lastCompute: number;
  readonly computeOfAll: number;
  /** Blocked beside the last shard's kernels: as it looks from there, others' turns included. */
  readonly besideLast: number;
  readonly nodes: number;
}

const COMPUTE = "flotilla.compute_ms";
const QUEUE = "flotilla.queue_ms";

/** `span`: a layer call with a child for each shard that answered; `cores` of the machine. */
export function layerTimesOf(span: EndedSpan, cores: number): LayerTimes {
  const { children = [] } = span;
  assert(children.length > 0 && cores > 0, "a layer call reaches a shard, on some core");
  const blocked = span.endEpochMs - span.startEpochMs;
  const last = children.reduce((a, b) => b.endEpochMs > a.endEpochMs ? b : a);
  const times = children.map(({ attributes }) => Number(attributes[COMPUTE]));
  const computeOfAll = times.reduce((sum, ms) => sum + ms, 0);
  const shared = computeOfAll / Math.min(cores, children.length);
  const compute = Math.min(blocked, Math.max(...times, shared));
  const lastCompute = Number(last.attributes[COMPUTE]);
  const onTheWay = last.endEpochMs - last.startEpochMs - lastCompute -
    Number(last.attributes[QUEUE]);
  // A shard that waits for a core has not read its frame, or does not get on with its answer.
  const turns = compute - lastCompute;
  const wireAndWait = blocked - compute;
  const wire = Math.min(wireAndWait, Math.max(0, onTheWay - turns));
  return {
    ...{ blocked, compute, wire, wait: wireAndWait - wire, wireAndWait },
    ...{ lastCompute, computeOfAll, besideLast: blocked - lastCompute, nodes: children.length },
  };
}

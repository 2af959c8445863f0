/**
 * Measures one group: opens its rig, takes samples with a look at the machine and at peers before and
 * after each, and tells each row as soon as it stands. Runs inside a process of its own.
 *
 * Fractions and ratios are medians of those of single samples: on some machines memory is twice as
 * fast in one second as in the next, so that only neighbours in time can be compared.
 */
import type { Clock } from "@/clock.ts";
import type { BackendOptions } from "@/kernels/open.ts";
import { peakMemoryBytes } from "./host.ts";
import { between, type Limits, type Moment } from "./limits.ts";
import { dispatchMs } from "./dispatch.ts";
import * as measure from "./measurements.ts";
import { packedLoadSeconds } from "./packed_load.ts";
import { type Group, type Measurement, rowName } from "./plan.ts";
import { medianRatio, type Row, type RowFacts, rowOf, summarize } from "./report.ts";
import { Rig } from "./rig.ts";
import { bytesOf, headMatrix, layerMatrices, operationsOf, tileOperations } from "./workload.ts";

const MIB = 1024 * 1024;

/** What a group says while it runs. */
export type GroupMessage =
  | { readonly kind: "begin"; readonly measurement: number }
  | { readonly kind: "row"; readonly row: Row; readonly peers: readonly PeerSpeed[] }
  | { readonly kind: "kernels"; readonly threads: number; readonly text: string };

/** A peer beside the samples of a row. */
export interface PeerSpeed {
  readonly name: string;
  readonly values: readonly number[];
  /** How many times as good we are: the median of all samples. */
  readonly ratio: number;
}

/** A row that took this long gets no further samples: on slow machines the rest must have its turn. */
const SAMPLING_MS = 30_000;

/** Known once, and not held against a limit of the machine. */
const UNLIMITED: ReadonlySet<Measurement["kind"]> = new Set(["load", "memory"]);

/** Tokens after which kernels and JavaScript are compiled well. */
const WARM_UP_TOKENS = 24;

export interface GroupOptions {
  readonly group: Group;
  readonly shapesFolder: string;
  /** Keeps packed folders between runs. */
  readonly cacheFolder: string;
  readonly backend: BackendOptions;
  readonly moment: (beside: Measurement["kind"]) => Promise<Moment>;
  readonly clock: Clock;
  readonly tell: (message: GroupMessage) => void;
}

/** Sums of the work of one decoder row. */
interface Work {
  readonly layerOperations: number;
  readonly headOperations: number;
  readonly bytes: number;
}

class GroupRun {
  readonly #options: GroupOptions;
  readonly #rig: Rig;
  readonly #work: Work;
  readonly #rows = new Map<Measurement["kind"], Row>();

  constructor(options: GroupOptions, rig: Rig) {
    this.#options = options;
    this.#rig = rig;
    const { config, model } = rig.loaded;
    const layers = layerMatrices(config.decoder);
    const head = headMatrix(config.decoder, model.vocabularySize);
    this.#work = {
      layerOperations: operationsOf(layers),
      headOperations: operationsOf([head]),
      bytes: bytesOf([...layers, head], {
        precision: options.group.precision,
        decoderLayers: config.decoder.layers,
        stored: "bf16",
      }),
    };
  }

  /** One measurement: samples, each between two looks at what stands beside it. */
  async take(measurement: Measurement): Promise<void> {
    const { group, tell, clock, moment } = this.#options;
    const name = rowName(group, measurement);
    const { kind } = measurement;
    const isLimited = !UNLIMITED.has(kind);
    const values: number[] = [];
    const moments: Moment[] = [];
    let before = isLimited ? await moment(kind) : undefined;
    let sampledMs = 0;
    while (values.length < (isLimited ? group.repeats : 1) && sampledMs <= SAMPLING_MS) {
      const startMs = clock.nowMs();
      values.push(await this.#sample(measurement));
      sampledMs += clock.nowMs() - startMs;
      if (before === undefined) continue;
      const after = await moment(kind);
      moments.push(between(before, after));
      before = after;
    }
    const row = this.#row(measurement, { name, values, moments });
    this.#rows.set(kind, row);
    const peers = Object.keys(moments[0]?.peers ?? {}).map((peer): PeerSpeed => {
      const speeds = moments.map(({ peers }) => peers[peer]!);
      return { name: peer, values: speeds, ratio: medianRatio({ ...row, values }, speeds) };
    });
    tell({ kind: "row", row, peers });
  }

  /** The row, with its limit and fraction by the limits that stood beside each sample. */
  #row(
    measurement: Measurement,
    of: { name: string; values: readonly number[]; moments: readonly Moment[] },
  ): Row {
    const { name, values, moments } = of;
    const row = rowOf({ name, ...facts[measurement.kind] }, values);
    if (moments.length === 0) return row;
    const readGBs = summarize(moments.map(({ limits }) => limits.readGBs)).median;
    const found = moments.flatMap(({ limits }) => this.#limitOf(measurement, limits) ?? []);
    if (found.length === 0) return { ...row, readGBs };
    const limits = found.map(({ limit }) => limit!);
    return {
      ...row,
      readGBs,
      limit: summarize(limits).median,
      limitName: found[0]!.limitName!,
      fraction: medianRatio({ ...row, values }, limits),
    };
  }

  /** First runs compile what is hot, in kernels and in JavaScript: they are not counted. */
  async warmUp(): Promise<void> {
    const kinds = new Set(this.#options.group.measurements.map(({ kind }) => kind));
    if (kinds.has("prefill") || kinds.has("picture")) await measure.prefill(this.#rig, 64);
    if (kinds.has("decode")) await measure.decode(this.#rig, WARM_UP_TOKENS);
    if (kinds.has("skeleton")) await measure.decode(this.#rig);
    if (kinds.has("batch")) await measure.decodeBatch(this.#rig, 4, 2);
    // A processor takes so long for a tile that compiling does not show in it.
    const isQuick = this.#rig.backend.name === "webgpu";
    if (isQuick && (kinds.has("tile") || kinds.has("picture"))) await measure.encodeTile(this.#rig);
  }

  async #sample(measurement: Measurement): Promise<number> {
    const rig = this.#rig;
    switch (measurement.kind) {
      case "load":
        return rig.loadSeconds;
      case "prefill":
        return await measure.prefill(rig);
      case "decode":
        return await measure.decode(rig);
      case "batch":
        return await measure.decodeBatch(rig, measurement.sequences);
      case "tile":
        return await measure.encodeTile(rig);
      case "picture":
        return await measure.pictureFirstToken(rig);
      case "skeleton":
        return 1000 / await measure.decode(rig);
      case "dispatch":
        return await dispatchMs(rig);
      case "packed": {
        const { group, shapesFolder, cacheFolder, backend, clock } = this.#options;
        const { shape, precision } = group;
        const folder = `${shapesFolder}/${group.folder}`;
        return await packedLoadSeconds({ folder, shape, precision, cacheFolder, backend, clock });
      }
      case "memory":
        return await peakMemoryBytes() / MIB;
    }
  }

  /** What the machine allows at such a moment; undefined for measurements that nothing limits. */
  #limitOf(
    measurement: Measurement,
    limits: Limits,
  ): Pick<RowFacts, "limit" | "limitName"> | undefined {
    const { layerOperations, headOperations, bytes } = this.#work;
    const peak = peakOf(this.#options.group, limits);
    const prefillOperations = layerOperations + headOperations / measure.PREFILL_TOKENS;
    switch (measurement.kind) {
      case "decode":
        return { limit: limits.readGBs * 1e9 / bytes, limitName: "limits/read" };
      case "prefill":
        return { limit: peak.gops * 1e9 / prefillOperations, limitName: peak.name };
      case "batch": {
        const own = this.#rows.get("prefill");
        if (own === undefined) return undefined;
        const limit = own.value * prefillOperations / (layerOperations + headOperations);
        return { limit, limitName: own.name };
      }
      case "tile": {
        const { linear, attention } = tileOperations(this.#rig.loaded.config);
        const limit = linear / peak.gops / 1e9 + attention / limits.f32Gops / 1e9;
        return { limit, limitName: peak.name };
      }
      default:
        return undefined;
    }
  }
}

const speed = { unit: "tok/s", better: "more" } as const;
const time = { unit: "s", better: "less" } as const;

/** Unit and direction of every measurement, and what its name does not say. */
const facts: Readonly<Record<Measurement["kind"], Omit<RowFacts, "name">>> = {
  decode: speed,
  prefill: speed,
  batch: speed,
  tile: time,
  load: { ...time, note: "weights drawn from a seed and packed" },
  packed: { ...time, note: "from a packed folder that the system has just read or written" },
  picture: { ...time, note: "one new tile, 272 prompt tokens" },
  skeleton: { unit: "ms", better: "less", note: "a decode step of 28 layers without width" },
  dispatch: { unit: "ms", better: "less", note: "JavaScript and submitting of that step" },
  memory: { unit: "MiB", better: "less", note: "most ever resident in the process" },
};

/** The arithmetic peak that a group's linears run against. */
function peakOf({ precision, shape }: Group, limits: Limits): { name: string; gops: number } {
  const format = shape === "vit" ? precision.vision : precision.quantisation;
  if (format === "q4") return { name: "limits/i16", gops: limits.i16Gops };
  if (format === "q8") return { name: "limits/dot3", gops: limits.dot3Gops };
  return { name: "limits/f32", gops: limits.f32Gops };
}

/** Measures the group; throws OperatingError when its model cannot be opened. */
export async function runGroup(options: GroupOptions): Promise<void> {
  const { group, shapesFolder, backend, clock, tell } = options;
  tell({ kind: "begin", measurement: 0 });
  const rig = await Rig.open({
    folder: `${shapesFolder}/${group.folder}`,
    precision: group.precision,
    backend,
    clock,
  });
  try {
    const { threads, variant, numericClass } = rig.backend.description;
    tell({ kind: "kernels", threads, text: `${variant}, ${numericClass}` });
    const run = new GroupRun(options, rig);
    await run.warmUp();
    for (const [index, measurement] of group.measurements.entries()) {
      tell({ kind: "begin", measurement: index });
      await run.take(measurement);
    }
  } finally {
    await rig.close();
  }
}

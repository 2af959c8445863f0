/**
 * Measures one group: opens its rig, takes samples with the machine's limits before and after, and
 * tells each row as soon as it stands. Runs inside a process of its own.
 */
import type { Clock } from "@/clock.ts";
import type { BackendOptions } from "@/kernels/open.ts";
import { peakMemoryBytes } from "./host.ts";
import type { LimitProbe, Limits } from "./limits.ts";
import { dispatchMs } from "./dispatch.ts";
import * as measure from "./measurements.ts";
import { packedLoadSeconds } from "./packed_load.ts";
import { type Group, type Measurement, rowName } from "./plan.ts";
import { type Row, type RowFacts, rowOf } from "./report.ts";
import { Rig } from "./rig.ts";
import { bytesOf, headMatrix, layerMatrices, operationsOf, tileOperations } from "./workload.ts";

const MIB = 1024 * 1024;

/** What a group says while it runs. */
export type GroupMessage =
  | { readonly kind: "begin"; readonly measurement: number }
  | { readonly kind: "row"; readonly row: Row }
  | { readonly kind: "limits"; readonly limits: Limits }
  | { readonly kind: "kernels"; readonly threads: number; readonly text: string };

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
  readonly probe: LimitProbe;
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
  #limits: Limits;

  constructor(options: GroupOptions, rig: Rig, limits: Limits) {
    this.#options = options;
    this.#rig = rig;
    this.#limits = limits;
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

  /** One measurement: samples between two looks at the limits. */
  async take(measurement: Measurement): Promise<void> {
    const { group, tell, clock } = this.#options;
    const values: number[] = [];
    const before = this.#limits;
    const count = UNLIMITED.has(measurement.kind) ? 1 : group.repeats;
    const startMs = clock.nowMs();
    while (values.length < count) {
      values.push(await this.#sample(measurement));
      if (clock.nowMs() - startMs > SAMPLING_MS) break;
    }
    if (!UNLIMITED.has(measurement.kind)) {
      this.#limits = await this.#options.probe.measure();
      tell({ kind: "limits", limits: this.#limits });
    }
    const readGBs = (before.readGBs + this.#limits.readGBs) / 2;
    const name = rowName(group, measurement);
    const row = { ...rowOf({ name, ...this.#facts(measurement, readGBs) }, values), readGBs };
    this.#rows.set(measurement.kind, row);
    tell({ kind: "row", row });
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

  /** Unit, direction and limit of a measurement. */
  #facts(measurement: Measurement, readGBs: number): Omit<RowFacts, "name"> {
    const { layerOperations, headOperations, bytes } = this.#work;
    const peak = peakOf(this.#options.group, this.#limits);
    const speed = { unit: "tok/s", better: "more" as const };
    const time = { unit: "s", better: "less" as const };
    switch (measurement.kind) {
      case "decode":
        return { ...speed, limit: readGBs * 1e9 / bytes, limitName: "limits/read" };
      case "prefill": {
        const operations = layerOperations + headOperations / measure.PREFILL_TOKENS;
        return { ...speed, limit: peak.gops * 1e9 / operations, limitName: peak.name };
      }
      case "batch": {
        const own = this.#rows.get("prefill");
        if (own === undefined) return speed;
        const perSecond = own.value * (layerOperations + headOperations / measure.PREFILL_TOKENS);
        const limit = perSecond / (layerOperations + headOperations);
        return { ...speed, limit, limitName: own.name };
      }
      case "tile": {
        const { linear, attention } = tileOperations(this.#rig.loaded.config);
        const limit = linear / peak.gops / 1e9 + attention / this.#limits.f32Gops / 1e9;
        return { ...time, limit, limitName: peak.name };
      }
      case "load":
        return { ...time, note: "weights drawn from a seed and packed" };
      case "packed":
        return { ...time, note: "from a packed folder that the system has just read or written" };
      case "picture":
        return { ...time, note: "one new tile, 272 prompt tokens" };
      case "skeleton":
        return { unit: "ms", better: "less", note: "a decode step of 28 layers without width" };
      case "dispatch":
        return { unit: "ms", better: "less", note: "JavaScript and submitting of that step" };
      case "memory":
        return { unit: "MiB", better: "less", note: "most ever resident in the process" };
    }
  }
}

/** The arithmetic peak that a group's linears run against. */
function peakOf({ precision, shape }: Group, limits: Limits): { name: string; gops: number } {
  const format = shape === "vit" ? precision.vision : precision.quantisation;
  if (format === "q4") return { name: "limits/i16", gops: limits.i16Gops };
  if (format === "q8") return { name: "limits/dot3", gops: limits.dot3Gops };
  return { name: "limits/f32", gops: limits.f32Gops };
}

/** Measures the group; throws OperatingError when its model cannot be opened. */
export async function runGroup(options: GroupOptions): Promise<void> {
  const { group, shapesFolder, backend, clock, tell, probe } = options;
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
    const limits = await probe.measure();
    tell({ kind: "limits", limits });
    const run = new GroupRun(options, rig, limits);
    await run.warmUp();
    for (const [index, measurement] of group.measurements.entries()) {
      tell({ kind: "begin", measurement: index });
      await run.take(measurement);
    }
  } finally {
    await rig.close();
  }
}

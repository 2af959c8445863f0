/**
 * What a run measures: groups (one shape in one precision, in a process of its own) with their
 * measurements, the names of rows, and how long each takes. Measures nothing.
 */
import { type Precision, precisionOf } from "@/weights/precision.ts";
import { PREFILL_TOKENS } from "./measurements.ts";

/** One measurement of a group; a group does them in this order. */
export type Measurement =
  | { readonly kind: "load" }
  | { readonly kind: "prefill" }
  | { readonly kind: "decode" }
  | { readonly kind: "batch"; readonly sequences: number }
  | { readonly kind: "tile" }
  | { readonly kind: "picture" }
  | { readonly kind: "skeleton" }
  | { readonly kind: "dispatch" }
  | { readonly kind: "memory" }
  /** After `memory`, since it opens a second model. */
  | { readonly kind: "packed" };

export interface Group {
  /** Short name of the shape in row names. */
  readonly shape: string;
  /** Folder of the shape's config.json, under the shapes folder. */
  readonly folder: string;
  /** Short name of the precision in row names. */
  readonly format: string;
  readonly precision: Precision;
  readonly measurements: readonly Measurement[];
  /** Samples of each measurement; slow shapes take fewer. */
  readonly repeats: number;
}

export interface PlanOptions {
  readonly all: boolean;
  readonly smoke: boolean;
  /** Shapes and formats for a GPU. */
  readonly gpu?: boolean;
  readonly repeats: number;
  /** Only rows whose name matches one of these patterns; `*` stands for anything. */
  readonly only?: string;
}

/** Precisions by their short names. Rows beside peers are uniform, as the peers' files are. */
const precisions = {
  none: precisionOf({}),
  q8: precisionOf({ quantisation: "q8", preset: "uniform" }),
  q4: precisionOf({ quantisation: "q4", preset: "uniform" }),
  "q4-mixed": precisionOf({ quantisation: "q4", preset: "mixed" }),
} as const;

/** Precisions of the vision tower alone. */
const towerPrecisions = {
  f32: precisionOf({}),
  int8: precisionOf({ quantisation: "q8", vision: "q8" }),
  q4: precisionOf({ quantisation: "q4", vision: "q4" }),
} as const;

const simple = (...kinds: Exclude<Measurement["kind"], "batch">[]): Measurement[] =>
  kinds.map((kind) => ({ kind }));
const batches = (...counts: number[]): Measurement[] =>
  counts.map((sequences) => ({ kind: "batch", sequences }));

function decoderGroup(
  format: keyof typeof precisions,
  rest: Omit<Group, "format" | "precision">,
): Group {
  return { ...rest, format, precision: precisions[format] };
}

function towerGroup(format: keyof typeof towerPrecisions, repeats: number): Group {
  return {
    shape: "vit",
    folder: "vit-1-layer",
    format,
    precision: towerPrecisions[format],
    measurements: simple("tile"),
    repeats,
  };
}

/** The standing-in shape of `--smoke`: every measurement, in moments. */
function smokePlan(gpu: boolean): Group[] {
  const shape = { shape: "smoke", folder: "skeleton-28-layers", repeats: 1 };
  const measurements = [
    ...simple("load", "prefill", "decode"),
    ...batches(4),
    ...simple("tile", "picture", "skeleton", "memory"),
    ...simple(gpu ? "dispatch" : "packed"),
  ];
  return [
    decoderGroup("q4", { ...shape, measurements }),
    decoderGroup("q8", { ...shape, measurements: simple("prefill", "decode") }),
  ];
}

function fullPlan({ all, repeats }: PlanOptions): Group[] {
  const shape = { shape: "1.7b", folder: "sail-vl2-2b", repeats };
  const extra = all ? batches(4, 16) : [];
  const few = Math.min(repeats, 2);
  const groups = [
    decoderGroup("q4", {
      ...shape,
      measurements: [
        ...simple("load", "decode", "prefill"),
        ...extra,
        ...simple("picture", "memory"),
        ...all ? simple("packed") : [],
      ],
    }),
    decoderGroup("q8", {
      ...shape,
      measurements: [...simple("load", "decode", "prefill"), ...extra, ...simple("memory")],
    }),
    towerGroup("int8", few),
    decoderGroup("q4", {
      shape: "skeleton",
      folder: "skeleton-28-layers",
      repeats,
      measurements: simple("skeleton"),
    }),
  ];
  if (!all) return groups;
  const [big, sparse] = [
    { shape: "8b", folder: "sail-vl2-8b", repeats: 1 },
    { shape: "30b-a3b", folder: "30b-a3b-4-layers", repeats: few },
  ];
  return [
    ...groups,
    towerGroup("q4", few),
    towerGroup("f32", 1),
    decoderGroup("q4-mixed", { ...shape, measurements: simple("decode", "prefill", "memory") }),
    decoderGroup("q4", { ...sparse, measurements: simple("load", "decode", "prefill", "memory") }),
    decoderGroup("q4", {
      ...big,
      measurements: simple("load", "decode", "prefill", "picture", "memory"),
    }),
  ];
}

/** On a GPU weights are worth keeping as stored, and the tower too. */
function gpuPlan({ all, repeats }: PlanOptions): Group[] {
  const small = { shape: "1.7b", folder: "sail-vl2-2b", repeats };
  const big = { shape: "8b", folder: "sail-vl2-8b", repeats: Math.min(repeats, 2) };
  const measurements = [...simple("load", "decode", "prefill"), ...batches(16), {
    kind: "picture",
  }] as const;
  return [
    decoderGroup("q4", { ...small, measurements }),
    decoderGroup("none", { ...small, measurements }),
    towerGroup("f32", repeats),
    towerGroup("int8", repeats),
    decoderGroup("q4", {
      shape: "skeleton",
      folder: "skeleton-28-layers",
      repeats,
      measurements: simple("skeleton", "dispatch"),
    }),
    ...all
      ? [
        decoderGroup("q4", { ...big, measurements }),
        decoderGroup("none", { ...big, measurements }),
      ]
      : [],
  ];
}

/** The groups of a run, without those of which no row is wanted. */
export function planGroups(options: PlanOptions): Group[] {
  const { smoke, gpu = false } = options;
  const groups = smoke ? smokePlan(gpu) : gpu ? gpuPlan(options) : fullPlan(options);
  if (options.only === undefined) return groups;
  const wanted = matcher(options.only);
  return groups.map((group) => ({
    ...group,
    measurements: group.measurements.filter((measurement) => wanted(rowName(group, measurement))),
  })).filter(({ measurements }) => measurements.length > 0);
}

/** Whether a row name matches one of some patterns, in which `*` stands for anything. */
export function matcher(patterns: string): (name: string) => boolean {
  const alternatives = patterns.split(",").map((pattern) =>
    pattern.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&")).join(".*")
  );
  const expression = new RegExp(`^(?:${alternatives.join("|")})$`);
  return (name) => expression.test(name);
}

/** The stable name of a measurement's row. */
export function rowName(group: Pick<Group, "shape" | "format">, measurement: Measurement): string {
  const of = `${group.shape}/${group.format}`;
  switch (measurement.kind) {
    case "load":
    case "memory":
      return `${measurement.kind}/${of}`;
    case "packed":
      return `load/${of}/packed`;
    case "prefill":
      return `prefill/${of}/${PREFILL_TOKENS}`;
    case "decode":
      return group.shape === "30b-a3b" ? `moe/decode/${of}` : `decode/${of}/b1`;
    case "batch":
      return `batch/${of}/b${measurement.sequences}`;
    case "tile":
      return `vit/tile/${group.format}`;
    case "picture":
      return `ttft/${of}/picture`;
    case "skeleton":
      return "step/skeleton";
    case "dispatch":
      return "step/dispatch";
  }
}

/** Expected seconds of a measurement, on two cores of a small server: for the ETA only. */
export function expectedSeconds(group: Group, measurement: Measurement): number {
  const size = { "1.7b": 1, "8b": 4.2, "30b-a3b": 1.2, vit: 0.3 }[group.shape] ?? 0.02;
  const samples = group.repeats + 1;
  const seconds = { load: 12, prefill: 9, decode: 2.5, batch: 3, tile: 3, picture: 18 };
  const of = measurement.kind;
  if (of === "memory" || of === "skeleton" || of === "dispatch") return 0.5;
  if (of === "load" || of === "packed") return seconds.load * size;
  if (of === "tile") return group.shape === "vit" ? 12 * samples : 0.5;
  return seconds[of] * size * samples;
}

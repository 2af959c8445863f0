/**
 * Which format each weight gets: the one table of roles and presets. It knows canonical names and
 * nothing of files or backends. Vectors (norms, biases, positions) are float32 always.
 */
import type { MatrixFormat } from "@/kernels/backend.ts";
import type { TensorName } from "./names.ts";

/** `none` keeps what the checkpoint stores; `q8` and `q4` are groups of 32 with one scale each. */
export type Quantisation = "none" | "q8" | "q4";
/** `mixed` keeps sensitive matrices higher; `uniform` gives every decoder linear one format. */
export type Preset = "mixed" | "uniform";

export const quantisations: readonly Quantisation[] = ["none", "q8", "q4"];
export const presets: readonly Preset[] = ["mixed", "uniform"];

/** The precision of a whole model. */
export interface Precision {
  /** Decoder, head and adapter. */
  readonly quantisation: Quantisation;
  readonly preset: Preset;
  /** Linears of the vision tower. */
  readonly vision: Quantisation;
}

/** Defaults: the mixed preset; a tower of int8 whenever the decoder is quantised. */
export function precisionOf(options: Partial<Precision>): Precision {
  const { quantisation = "none", preset = "mixed" } = options;
  return {
    quantisation,
    preset,
    vision: options.vision ?? (quantisation === "none" ? "none" : "q8"),
  };
}

/** Short unique name, e.g. "q4", "q4-uniform", "q4+vision-q4"; part of the numeric class. */
export function precisionLabel(precision: Precision): string {
  const { quantisation, preset, vision } = precision;
  // The uniform preset differs from the mixed one in q4 only.
  const decoder = quantisation === "q4" && preset === "uniform" ? "q4-uniform" : quantisation;
  const usual = precisionOf({ quantisation }).vision;
  return vision === usual ? decoder : `${decoder}+vision-${vision}`;
}

/** Whether two precisions give every weight the same format. */
export function samePrecision(a: Precision, b: Precision): boolean {
  return precisionLabel(a) === precisionLabel(b);
}

/** A matrix format, or the file's own element type. */
type Rule = MatrixFormat | "stored";

/** Formats of one role: in q8, and in q4 mixed (inner layers, first and last layer) and uniform. */
interface Row {
  readonly q8: Rule;
  readonly q4: Rule;
  readonly q4Outer: Rule;
  readonly q4Uniform: Rule;
}

const always = (rule: Rule): Row => ({ q8: rule, q4: rule, q4Outer: rule, q4Uniform: rule });
/** The first layers build the features that all others read; the last one has nobody to repair it. */
const linear: Row = { q8: "q8", q4: "q4", q4Outer: "q8", q4Uniform: "q4" };

/**
 * Decoder and adapter. The router picks experts by small differences and costs nothing: as stored.
 * Embedding rows are looked up, not multiplied, so their format costs memory alone: beside q8
 * linears theirs would be a third of the whole error (measured), beside q4 it does not show.
 */
const table: Readonly<Record<string, Row>> = {
  "adapter.hidden": always("q8"),
  "adapter.output": always("q8"),
  "decoder.embedding": { ...always("q8"), q8: "stored" },
  "decoder.query": linear,
  "decoder.key": linear,
  "decoder.value": linear,
  "decoder.output": linear,
  "decoder.gate": linear,
  "decoder.up": linear,
  "decoder.down": linear,
  "decoder.moeGate": always("stored"),
  "expert.gate": linear,
  "expert.up": linear,
  "expert.down": linear,
  "decoder.head": { q8: "q8", q4: "q8", q4Outer: "q8", q4Uniform: "q4" },
};

/**
 * The tower's linears under `Precision.vision`; the patch projection reads pixels: as stored. Errors
 * of values and of what attention puts out go straight into the features: at full depth the cosine
 * of visual tokens rises from 0.975 to 0.991 with these two in q8, a sixth of all operations.
 */
const visionTable: Readonly<Record<string, { readonly q8: Rule; readonly q4: Rule }>> = {
  query: { q8: "q8", q4: "q4" },
  key: { q8: "q8", q4: "q4" },
  value: { q8: "q8", q4: "q8" },
  output: { q8: "q8", q4: "q8" },
  gate: { q8: "q8", q4: "q4" },
  up: { q8: "q8", q4: "q4" },
  down: { q8: "q8", q4: "q4" },
};

/** What a weight does, whatever its layer: "decoder.query", "expert.up", "vision.patch", … */
export function roleOf(name: TensorName): string {
  const expert = /\.experts\.(?:\d+\.)?(gate|up|down)\b/.exec(name);
  return expert ? `expert.${expert[1]}` : name.replace(/\.\d+\./, ".").replace(/\.weight$/, "");
}

/** Index of the layer that a name belongs to. */
export function layerOf(name: TensorName): number | undefined {
  const match = /^\w+\.(\d+)\./.exec(name);
  return match ? Number(match[1]) : undefined;
}

/** Format of a matrix under `precision`; `stored` is the format of the file's element type. */
export function matrixFormatOf(
  name: TensorName,
  model: { precision: Precision; decoderLayers: number; stored: MatrixFormat },
): MatrixFormat {
  const rule = ruleOf(name, model.precision, model.decoderLayers);
  return rule === "stored" ? model.stored : rule;
}

function ruleOf(name: TensorName, precision: Precision, decoderLayers: number): Rule {
  const role = roleOf(name);
  const [part, what] = role.split(".");
  if (part === "vision") {
    const { vision } = precision;
    return vision === "none" ? "stored" : visionTable[what!]?.[vision] ?? "stored";
  }
  const row = table[role];
  if (row === undefined) throw new RangeError(`No precision is planned for ${name} (${role})`);
  const { quantisation, preset } = precision;
  if (quantisation === "none") return "stored";
  if (quantisation === "q8") return row.q8;
  if (preset === "uniform") return row.q4Uniform;
  const layer = layerOf(name);
  return layer === 0 || layer === decoderLayers - 1 ? row.q4Outer : row.q4;
}

/**
 * Accuracy of quantised weights on golden prompts: the divergence of every position's distribution
 * from that of the weights as stored, held against what the fixtures recorded for the usual
 * formats. `deno task parity --quant`.
 */
import { dirname } from "node:path";
import type { Backend } from "@/kernels/backend.ts";
import { loadModel } from "@/model/load.ts";
import {
  type Precision,
  precisionLabel,
  precisionOf,
  type Quantisation,
} from "@/weights/precision.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { GoldenPrompt, promptBounds } from "./golden_prompt.ts";
import { type Fixture, readGoldens, readJson } from "./parity_fixtures.ts";
import type { GoldenCases } from "./parity_model.ts";
import { ParityCheck, type ParityRow, skippedRow } from "./parity_report.ts";

/** Recorded figure of a fixture that bounds a precision, and by which factor. */
interface Bound {
  readonly figure: string;
  readonly factor: number;
}

const boundOf: Readonly<Record<Exclude<Quantisation, "none">, Bound>> = {
  q8: { figure: "int8_per_row_llm_linears_act8", factor: 2 },
  q4: { figure: "int4_g32_llm_linears", factor: 1 },
};

interface PromptLogits {
  /** [prompt positions, width] */
  readonly logits: Float32Array;
  readonly width: number;
}

async function promptLogits(
  fixture: Fixture,
  { cases, image_token_id: imageTokenId }: GoldenCases,
  variant: { backend: Backend; precision: Precision },
): Promise<PromptLogits[]> {
  const { backend, precision } = variant;
  const golden = dirname(fixture.path);
  const { model } = await loadModel({
    folder: diskFolder(dirname(golden)),
    backend,
    bounds: promptBounds,
    ...precision,
  });
  const all: PromptLogits[] = [];
  for (const { name } of cases) {
    const goldens = await readGoldens(golden, `${name}.safetensors`);
    const prompt = new GoldenPrompt({ model, goldens, imageTokenId });
    await prompt.encode();
    const logits = await backend.read(await prompt.forward(prompt.ids, 0, true)) as Float32Array;
    all.push({ logits, width: model.vocabularySize });
    prompt.free();
  }
  return all;
}

/** KL(p || q) of two rows of logits, in nats. */
export function divergence(p: Float32Array, q: Float32Array): number {
  const [logP, logQ] = [logSumExp(p), logSumExp(q)];
  let sum = 0;
  for (let i = 0; i < p.length; i++) {
    const log = p[i]! - logP;
    sum += Math.exp(log) * (log - (q[i]! - logQ));
  }
  return sum;
}

function logSumExp(logits: Float32Array): number {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  return largest + Math.log(logits.reduce((sum, value) => sum + Math.exp(value - largest), 0));
}

/** Both formats in their strictest sense: every linear, the head too. */
export const judgedPrecisions: readonly Precision[] = [
  precisionOf({ quantisation: "q8" }),
  precisionOf({ quantisation: "q4", preset: "uniform" }),
];

/** One row per precision: mean KL(stored || quantised) in nats over all prompt positions. */
export async function quantParity(
  fixture: Fixture,
  backend: Backend,
  precisions: readonly Precision[],
): Promise<ParityRow[]> {
  const cases = await readJson<GoldenCases & RecordedPrecision>(fixture.path);
  const label = (precision: Precision) =>
    `${backend.name} ${backend.description.variant}: KL ${precisionLabel(precision)}`;
  if (cases.precision === undefined) {
    return precisions.map((precision) =>
      skippedRow(fixture.name, label(precision), "the fixture records no precision")
    );
  }
  const stored = await promptLogits(fixture, cases, { backend, precision: precisionOf({}) });
  const rows: ParityRow[] = [];
  for (const precision of precisions) {
    const quantised = await promptLogits(fixture, cases, { backend, precision });
    const mean = meanDivergence(stored, quantised, cases.base_vocab);
    rows.push(judge({ file: fixture.name, check: label(precision) }, { mean, precision, cases }));
  }
  return rows;
}

function judge(
  row: { file: string; check: string },
  result: { mean: number; precision: Precision; cases: GoldenCases & RecordedPrecision },
): ParityRow {
  const { mean, precision, cases } = result;
  const { quantisation } = precision;
  const bound = quantisation === "none" ? undefined : boundOf[quantisation];
  const recorded = bound && cases.precision?.[bound.figure]?.kl_mean;
  if (bound === undefined || recorded === undefined) {
    return skippedRow(
      row.file,
      row.check,
      `mean ${mean.toExponential(2)}, nothing to compare with`,
    );
  }
  const ratio = `${(mean / recorded).toFixed(2)} x ${bound.figure}`;
  if (cases.cases.some((golden) => golden.sparse_layers.length > 0)) {
    // A position whose router is undecided may pick another expert and outweigh all others.
    return skippedRow(row.file, row.check, `${ratio}; routers flip, so it is not judged`);
  }
  const check = new ParityCheck(row.file, row.check, bound.factor * recorded);
  check.raiseWorst(mean);
  check.record("mean", mean <= bound.factor * recorded, ratio);
  const judged = check.row();
  return judged.note === "" ? { ...judged, note: ratio } : judged;
}

/** Mean of KL(stored || quantised) over all rows, over the ids below `vocabulary`. */
function meanDivergence(
  stored: readonly PromptLogits[],
  quantised: readonly PromptLogits[],
  vocabulary: number,
): number {
  let [sum, rows] = [0, 0];
  stored.forEach(({ logits, width }, i) => {
    for (let at = 0; at < logits.length; at += width) {
      const row = [at, at + vocabulary] as const;
      sum += divergence(logits.subarray(...row), quantised[i]!.logits.subarray(...row));
      rows++;
    }
  });
  return sum / rows;
}

interface RecordedPrecision {
  readonly precision?: Readonly<Record<string, { readonly kl_mean: number }>>;
}

/** `parity`: this build against a folder of golden fixtures; fails on any miss. */
import { basename } from "node:path";
import type { Backend } from "@/kernels/backend.ts";
import { openBackend } from "@/kernels/open.ts";
import { inlineCodec } from "@/media/codec.ts";
import { precisionOf } from "@/weights/precision.ts";
import type { Flags } from "./flags.ts";
import { decodeParity, resizeParity, tilingParity, tokenizerParity } from "./parity_cases.ts";
import { findFixtures, type Fixture } from "./parity_fixtures.ts";
import { httpParity } from "./parity_http.ts";
import { languageParity } from "./parity_language.ts";
import { modelParity } from "./parity_model.ts";
import { precisionFlags } from "./precision_flags.ts";
import { judgedPrecisions, quantParity } from "./parity_quant.ts";
import { autogradParity } from "./parity_autograd.ts";
import { promptParity } from "./parity_prompt.ts";
import { trainingParity } from "./parity_training.ts";
import { failed, type ParityRow, parityTable, skippedRow } from "./parity_report.ts";
import { printError, printLine } from "./terminal.ts";

const committedFixtures = new URL("../../tests/fixtures/model", import.meta.url).pathname;

/** Which backends a run covers: those that every machine has, unless one is named. */
function backendNames(flags: Flags): readonly Backend["name"][] {
  const name = flags.string("backend");
  return name === undefined ? ["reference", "wasm"] : [name as Backend["name"]];
}

async function modelRows(fixture: Fixture, flags: Flags): Promise<ParityRow[]> {
  const rows: ParityRow[] = [];
  for (const name of backendNames(flags)) {
    const threads = flags.number("threads");
    const backend = await openBackend({ name, ...(threads && { threads }) });
    try {
      rows.push(...await modelParity(fixture, backend));
    } finally {
      await backend.close();
    }
    rows.push(...await httpParity(fixture, name));
  }
  return rows;
}

/** Accuracy of the asked precision, or of both formats with every linear in them. */
async function quantRows(fixture: Fixture, flags: Flags): Promise<ParityRow[]> {
  const asked = precisionFlags(flags);
  const precisions = asked.quantisation === undefined ? judgedPrecisions : [precisionOf(asked)];
  const rows: ParityRow[] = [];
  for (const name of backendNames(flags)) {
    const threads = flags.number("threads");
    const backend = await openBackend({ name, ...(threads && { threads }) });
    try {
      rows.push(...await quantParity(fixture, backend, precisions));
    } finally {
      await backend.close();
    }
  }
  return rows;
}

/** Rows of a check that needs the ops of training. */
async function trainingRows(
  fixture: Fixture,
  flags: Flags,
  parityOf: (fixture: Fixture, backend: Backend) => Promise<ParityRow[]>,
): Promise<ParityRow[]> {
  const rows: ParityRow[] = [];
  for (const name of backendNames(flags)) {
    const threads = flags.number("threads");
    const backend = await openBackend({ name, training: true, ...(threads && { threads }) });
    try {
      const missing = `the ${name} backend has no training ops`;
      rows.push(
        ...backend.training
          ? await parityOf(fixture, backend)
          : [skippedRow(fixture.name, "training", missing)],
      );
    } finally {
      await backend.close();
    }
  }
  return rows;
}

async function decodeRows(fixture: Fixture): Promise<ParityRow[]> {
  const codec = inlineCodec();
  try {
    return await decodeParity(fixture, codec);
  } finally {
    codec.close();
  }
}

/** All rows of one fixture. */
export async function fixtureParity(fixture: Fixture, flags: Flags): Promise<ParityRow[]> {
  switch (fixture.kind) {
    case "model":
      return [
        ...flags.string("quant") === undefined ? await modelRows(fixture, flags) : [],
        ...await quantRows(fixture, flags),
      ];
    case "tokenizer":
      return await tokenizerParity(fixture);
    case "prompt":
      return await promptParity(fixture);
    case "preprocess":
      return await tilingParity(fixture);
    case "resize":
      return await resizeParity(fixture);
    case "decode":
      return await decodeRows(fixture);
    case "training":
      return fixture.path.endsWith(".json")
        ? await trainingRows(fixture, flags, trainingParity)
        : [];
    case "data":
      if (basename(fixture.path) === "autograd_ops.json") {
        return await trainingRows(fixture, flags, autogradParity);
      }
      if (basename(fixture.path) === "tiny_qwen3_sft.json") {
        return await trainingRows(fixture, flags, languageParity);
      }
      return [skippedRow(fixture.name, "data", "this part is not built yet")];
  }
}

export async function parity(flags: Flags): Promise<number> {
  const root = flags.string("fixtures") ?? committedFixtures;
  const only = flags.string("only")?.split(",") ?? [];
  const onlyModels = flags.string("quant") !== undefined;
  const fixtures = (await findFixtures(root)).filter((fixture) =>
    (!onlyModels || fixture.kind === "model") &&
    (only.length === 0 || only.some((name) => `${basename(root)}/${fixture.name}`.includes(name)))
  );
  if (fixtures.length === 0) {
    printError(`No fixtures found in ${root}${only.length ? ` for ${only.join(", ")}` : ""}`);
    return 1;
  }
  const rows: ParityRow[] = [];
  for (const fixture of fixtures) {
    try {
      rows.push(...await fixtureParity(fixture, flags));
    } catch (error) {
      const note = error instanceof Error ? error.message : String(error);
      const broken = { cases: 1, failures: 1, skipped: false };
      rows.push({ ...skippedRow(fixture.name, fixture.kind, note), ...broken });
    }
  }
  printLine(parityTable(rows));
  const failures = rows.filter(failed).length;
  const skipped = rows.filter((row) => row.skipped).length;
  printLine(`\n${rows.length - failures - skipped} ok, ${failures} failed, ${skipped} skipped`);
  return failures === 0 ? 0 : 1;
}

/**
 * Low-rank additions to matrices of the decoder (LoRA): made for a recipe, learnt instead of the
 * matrices, added into them when weights are written. Their files are in `adapter_files.ts`.
 */
import { assert } from "@/assert.ts";
import { Dice } from "@/data/dice.ts";
import { OperatingError } from "@/errors.ts";
import type { Backend } from "@/kernels/backend.ts";
import { type LoraTarget, loraTargets } from "./lora_targets.ts";
import { Parameter, ParameterSet } from "./parameter_set.ts";
import { readStore, writeStore } from "./parameter_values.ts";
import type { LoraRecipe } from "./recipes/recipe.ts";
import type { TrainableModel } from "./training_source.ts";

/** The addition to one matrix. */
export interface LowRankPair {
  /** The frozen matrix [N, K]. */
  readonly base: Parameter;
  readonly target: LoraTarget;
  /** [rank, K], small random numbers at first. */
  readonly down: Parameter;
  /** [N, rank], zero at first. */
  readonly up: Parameter;
}

export interface LowRankModel extends TrainableModel {
  readonly pairs: readonly LowRankPair[];
  readonly lora: LoraRecipe;
}

/** Which target a parameter is: a whole matrix of a decoder layer; experts and parts are none. */
function targetOf({ part, name, store, info }: Parameter): LoraTarget | undefined {
  if (part !== "decoder" || store.kind !== "matrix" || store.matrix.experts > 1) return undefined;
  const [place, ...more] = info.places;
  if (!place || more.length > 0 || place.rows !== store.matrix.rows) return undefined;
  const matrix = name.split(".").at(-2);
  return loraTargets.find((target) => target === matrix);
}

/** Adds pairs to the targets of a recipe. The additions are zero until they have learnt. */
export async function addLowRank(
  backend: Backend,
  model: TrainableModel,
  { lora, seed }: { lora: LoraRecipe; seed: number },
): Promise<LowRankModel> {
  const pairs: LowRankPair[] = [];
  for (const base of model.set.parameters) {
    const target = targetOf(base);
    if (target === undefined || !lora.targets.includes(target)) continue;
    pairs.push(await makePair(backend, { base, target, rank: lora.rank, seed }));
  }
  if (pairs.length === 0) {
    throw new OperatingError(
      "invalid_request",
      `Cannot add lora: the model has no ${lora.targets.join(", ")}`,
      { field: "lora.targets" },
    );
  }
  const added = pairs.flatMap(({ down, up }) => [down, up]);
  const set = new ParameterSet([...model.set.parameters, ...added]);
  for (const { base, down, up } of pairs) {
    const scale = lora.alpha / lora.rank;
    set.attachLowRank(matrixOf(base), { down: matrixOf(down), up: matrixOf(up), scale });
  }
  return { ...model, set, pairs, lora };
}

async function makePair(
  backend: Backend,
  options: { base: Parameter; target: LoraTarget; rank: number; seed: number },
): Promise<LowRankPair> {
  const { base, target, rank, seed } = options;
  const { rows, columns } = matrixOf(base);
  const bound = 1 / Math.sqrt(columns);
  const dice = Dice.of(base.name, seed, 0);
  const random = Float32Array.from({ length: rank * columns }, () => dice.between(-bound, bound));
  const stem = base.name.replace(/\.weight$/, "");
  const down = await makeMatrix(backend, `${stem}.loraDown`, { rows: rank, columns }, random);
  const zero = new Float32Array(rows * rank);
  const up = await makeMatrix(backend, `${stem}.loraUp`, { rows, columns: rank }, zero);
  return { base, target, down, up };
}

async function makeMatrix(
  backend: Backend,
  name: string,
  shape: { rows: number; columns: number },
  values: Float32Array,
): Promise<Parameter> {
  const matrix = backend.createMatrix({ format: "f32", ...shape });
  const parameter = new Parameter({ name, places: [] }, { kind: "matrix", matrix });
  await writeStore(backend, parameter.store, values);
  return parameter;
}

function matrixOf({ name, store }: Parameter) {
  assert(store.kind === "matrix", `${name} is no matrix`);
  return store.matrix;
}

/** weight [N, K] += scale * up [N, rank] * down [rank, K], each element summed in float64. */
export function addProduct(
  weight: Float32Array,
  { up, down, rank, scale }: {
    up: Float32Array;
    down: Float32Array;
    rank: number;
    scale: number;
  },
): void {
  const columns = down.length / rank;
  assert(weight.length === up.length / rank * columns, `${weight.length} weights`);
  const sum = new Float64Array(columns);
  for (let row = 0; row * columns < weight.length; row++) {
    sum.fill(0);
    for (let r = 0; r < rank; r++) {
      const factor = scale * up[row * rank + r]!;
      if (factor === 0) continue;
      for (let k = 0; k < columns; k++) sum[k]! += factor * down[r * columns + k]!;
    }
    const at = row * columns;
    for (let k = 0; k < columns; k++) weight[at + k] = weight[at + k]! + sum[k]!;
  }
}

/** A parameter's values with its addition. Waits for recorded ops. */
export async function mergedValues(
  backend: Backend,
  set: ParameterSet,
  { store }: Parameter,
): Promise<Float32Array> {
  const values = await readStore(backend, store);
  const addition = store.kind === "matrix" ? set.lowRankOf(store.matrix) : undefined;
  if (!addition) return values;
  const [down, up] = await Promise.all(
    [addition.down, addition.up].map((matrix) => readStore(backend, { kind: "matrix", matrix })),
  );
  addProduct(values, { up: up!, down: down!, rank: addition.down.rows, scale: addition.scale });
  return values;
}

/**
 * Runs something that knows no additions: meanwhile they are added into the frozen matrices, which
 * are afterwards what they were, bit for bit. Waits for recorded ops.
 */
export async function withAdditions<T>(
  backend: Backend,
  { pairs, set }: LowRankModel,
  run: () => Promise<T>,
): Promise<T> {
  const plain: Float32Array[] = [];
  try {
    for (const { base } of pairs) {
      const merged = await mergedValues(backend, set, base);
      plain.push(await readStore(backend, base.store));
      await writeStore(backend, base.store, merged);
    }
    return await run();
  } finally {
    await backend.flush();
    for (const [i, values] of plain.entries()) {
      await writeStore(backend, pairs[i]!.base.store, values);
    }
  }
}

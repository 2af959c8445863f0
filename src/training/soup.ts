/**
 * Model soup: the average of checkpoints that descend from one model. Refuses others: averaging
 * unrelated weights destroys a model. Streams tensor by tensor; writes the result whole or not at all.
 */
import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import { Checkpoint } from "@/weights/checkpoint.ts";
import { releasedName, type TensorName } from "@/weights/names.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { type Lineage, LINEAGE_FILE } from "./lineage.ts";
import { readFloats, writeModelFolder } from "./model_folder.ts";

/** One model on its way into a soup. */
export interface Ingredient {
  readonly folder: string;
  readonly checkpoint: Checkpoint;
  readonly lineage: Lineage | undefined;
}

export async function openIngredient(folder: string): Promise<Ingredient> {
  const checkpoint = await Checkpoint.open(diskFolder(folder));
  checkpoint.problems.throwIfAny(folder);
  const lineage = await checkpoint.json(LINEAGE_FILE) as Partial<Lineage> | undefined;
  const ancestors = lineage?.ancestors;
  // A soup of models without lineage has no ancestors: it is compared by its weights, as they were.
  const isSound = Array.isArray(ancestors) && ancestors.length > 0 &&
    ancestors.every((id) => typeof id === "string");
  return { folder, checkpoint, lineage: isSound ? { ancestors } : undefined };
}

/** What is wrong with mixing these models; empty when nothing is. */
export interface SoupCheck {
  /** Never mixable: shapes, tokenizer or configuration differ. */
  readonly mismatches: string[];
  /** Mixable by force only. */
  readonly doubts: string[];
  /** Likeness of each model's weights to the first one's: cosine over all matrices. */
  readonly likeness: number[];
}

/** Cosine of all matrices below which weights without lineage count as unrelated. */
const LIKENESS_MIN = 0.5;

export async function checkSoup(models: readonly Ingredient[]): Promise<SoupCheck> {
  const [first, ...others] = models;
  assert(first, "a soup has models");
  const mismatches: string[] = [];
  const doubts: string[] = [];
  const likeness = [1];
  for (const other of others) {
    const problem = shapeProblem(first, other) ?? await fileProblem(first, other);
    if (problem) {
      mismatches.push(problem);
      likeness.push(NaN);
      continue;
    }
    const cosine = await likenessOf(first.checkpoint, other.checkpoint);
    likeness.push(cosine);
    const pair = `${first.folder} and ${other.folder}`;
    if (first.lineage && other.lineage) {
      const shared = other.lineage.ancestors.some((id) => first.lineage!.ancestors.includes(id));
      if (!shared) doubts.push(`${pair} share no ancestor in their ${LINEAGE_FILE}`);
    } else if (!(cosine >= LIKENESS_MIN)) {
      doubts.push(`${pair} have unrelated weights: cosine ${cosine.toFixed(3)} < ${LIKENESS_MIN}`);
    }
  }
  return { mismatches, doubts, likeness };
}

function shapeProblem(a: Ingredient, b: Ingredient): string | undefined {
  for (const [name, tensor] of a.checkpoint.tensors) {
    const other = b.checkpoint.tensors.get(name);
    if (!other) return `${b.folder} lacks ${releasedName(name)}`;
    if (tensor.shape.join() !== other.shape.join()) {
      return `${
        releasedName(name)
      } is [${tensor.shape}] in ${a.folder}, [${other.shape}] in ${b.folder}`;
    }
  }
  const extra = b.checkpoint.tensors.keys().find((name) => !a.checkpoint.tensors.has(name));
  return extra === undefined ? undefined : `${a.folder} lacks ${releasedName(extra)}`;
}

async function fileProblem(a: Ingredient, b: Ingredient): Promise<string | undefined> {
  for (const name of ["config.json", "vocab.json", "merges.txt", "added_tokens.json"]) {
    const [mine, theirs] = [await a.checkpoint.text(name), await b.checkpoint.text(name)];
    if (mine !== theirs) return `${name} differs between ${a.folder} and ${b.folder}`;
  }
  return undefined;
}

async function likenessOf(a: Checkpoint, b: Checkpoint): Promise<number> {
  let [product, left, right] = [0, 0, 0];
  for (const [name, tensor] of a.tensors) {
    if (tensor.shape.length < 2) continue;
    const x = await readFloats(a, tensor);
    const y = await readFloats(b, b.tensors.get(name)!);
    for (let i = 0; i < x.length; i++) {
      product += x[i]! * y[i]!;
      left += x[i]! * x[i]!;
      right += y[i]! * y[i]!;
    }
  }
  return product / Math.sqrt(left * right);
}

/** Weighted mean of one tensor, summed in double precision. */
async function mixTensor(
  models: readonly Ingredient[],
  { name, weights }: { name: TensorName; weights: readonly number[] },
): Promise<Float32Array> {
  let sum: Float64Array | undefined;
  for (const [i, { checkpoint }] of models.entries()) {
    const values = await readFloats(checkpoint, checkpoint.tensors.get(name)!);
    sum ??= new Float64Array(values.length);
    for (let j = 0; j < values.length; j++) sum[j]! += weights[i]! * values[j]!;
  }
  return Float32Array.from(sum!);
}

export interface SoupOptions {
  readonly models: readonly Ingredient[];
  /** One per model; they are divided by their sum. Default: all the same. */
  readonly weights?: readonly number[];
  /** Folder to write; must not exist. */
  readonly out: string;
  /** Mixes models without a common ancestor all the same. */
  readonly force?: boolean;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Writes the averaged checkpoint: all files of the first model, its weights in its dtypes, and the
 * lineage. Throws OperatingError when the models must not be mixed.
 */
export async function writeSoup(options: SoupOptions): Promise<SoupCheck> {
  const { models, out, force = false, onProgress } = options;
  const check = await checkSoup(models);
  const wrong = force ? check.mismatches : [...check.mismatches, ...check.doubts];
  if (wrong.length > 0) {
    throw new OperatingError("checkpoint_invalid", `Cannot mix models: ${wrong.join("; ")}`);
  }
  const weights = normalized(options.weights ?? models.map(() => 1), models.length);
  await writeModelFolder({
    from: models[0]!,
    out,
    valuesOf: (name) => mixTensor(models, { name, weights }),
    lineage: {
      ancestors: commonAncestors(models),
      soup: { models: models.map(({ folder }) => folder.split("/").at(-1)), weights },
    },
    ...onProgress && { onProgress },
  });
  return check;
}

function normalized(weights: readonly number[], count: number): number[] {
  const total = weights.reduce((a, b) => a + b, 0);
  if (weights.length === count && weights.every((w) => w >= 0) && total > 0) {
    return weights.map((weight) => weight / total);
  }
  throw new OperatingError(
    "invalid_request",
    `Cannot mix ${count} models with weights ${
      weights.join(", ")
    }: expected one each, not negative`,
  );
}

function commonAncestors(models: readonly Ingredient[]): string[] {
  const lists = models.map(({ lineage }) => lineage?.ancestors ?? []);
  return lists[0]!.filter((id) => lists.every((list) => list.includes(id)));
}

/** What a greedy soup decided about one candidate. */
export interface GreedyStep {
  readonly candidate: number;
  readonly score: number;
  readonly kept: boolean;
}

/**
 * Greedy soup: candidates from the best on; each stays if the average with it scores no less.
 * `evaluate` scores the uniform average of the candidates with these indexes.
 */
export async function chooseGreedily(
  scores: readonly number[],
  evaluate: (members: readonly number[]) => Promise<number>,
): Promise<{ members: number[]; score: number; steps: GreedyStep[] }> {
  const order = scores.map((_, i) => i).sort((a, b) => scores[b]! - scores[a]! || a - b);
  let members = [order[0]!];
  let score = scores[order[0]!]!;
  const steps: GreedyStep[] = [{ candidate: order[0]!, score, kept: true }];
  for (const candidate of order.slice(1)) {
    const tried = await evaluate([...members, candidate]);
    const kept = tried >= score;
    if (kept) [members, score] = [[...members, candidate], tried];
    steps.push({ candidate, score: tried, kept });
  }
  return { members, score, steps };
}

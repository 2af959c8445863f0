/**
 * Training goldens of a checkpoint: loss, gradients and a trace of AdamW steps of the whole model,
 * over the three model cases packed into one batch.
 */
import { dirname, join } from "node:path";
import { assert } from "@/assert.ts";
import type { Backend } from "@/kernels/backend.ts";
import { openCheckpoint } from "@/model/open_checkpoint.ts";
import { BufferPool } from "@/training/buffer_pool.ts";
import { Optimizer } from "@/training/optimizer.ts";
import { BatchTensors, PackedModel, type ProgramBatch } from "@/training/packed_forward.ts";
import type { Parameter } from "@/training/parameter_set.ts";
import { readStore } from "@/training/parameter_values.ts";
import { Tape } from "@/training/tape.ts";
import { scoreTokens } from "@/training/tape_rules.ts";
import { loadTrainable, type TrainableModel } from "@/training/training_source.ts";
import { canonicalName } from "@/weights/names.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { type Fixture, type GoldenTensor, readGoldens, readJson } from "./parity_fixtures.ts";
import { ParityCheck, type ParityRow } from "./parity_report.ts";
import type { GoldenCases } from "./parity_model.ts";

interface TrainGolden {
  readonly loss_per_case: Readonly<Record<string, number>>;
  readonly loss: number;
  readonly grad_norm: number;
  readonly grad_norm_per_tensor: Readonly<Record<string, number>>;
  readonly adamw: {
    readonly lr: number;
    readonly betas: readonly [number, number];
    readonly eps: number;
    readonly weight_decay: number;
    readonly clip_grad_norm: number;
    readonly trace: readonly { readonly loss: number; readonly grad_norm: number }[];
  };
}

/** Of the fixtures' README: relative to the value, to the tensor's norm, to the value. */
const tolerance = { loss: 1e-5, gradient: 1e-4, trace: 1e-3 };

/** Checks one `golden/train.json`. */
export async function trainingParity(fixture: Fixture, backend: Backend): Promise<ParityRow[]> {
  const folder = dirname(fixture.path);
  const golden = await readJson<TrainGolden>(fixture.path);
  const { cases, image_token_id } = await readJson<GoldenCases>(join(folder, "cases.json"));
  const label = `${backend.name} ${backend.description.variant}`;
  const check = (name: string, allowed: number) =>
    new ParityCheck(fixture.name, `${label}: ${name}`, allowed);
  const checks = {
    loss: check("loss", tolerance.loss),
    gradients: check("gradients", tolerance.gradient),
    trace: check("AdamW trace", tolerance.trace),
  };
  const samples = [];
  for (const { name } of cases) {
    samples.push({ name, goldens: await readGoldens(folder, `${name}.safetensors`) });
  }
  const { checkpoint, config } = await openCheckpoint({ folder: diskFolder(dirname(folder)) });
  const model = await loadTrainable({ checkpoint, config, backend });
  checkpoint.close();
  const run = new TrainingRun(backend, model, packCases(samples, image_token_id));
  await run.gradients();
  const losses = await run.losses();
  samples.forEach(({ name }, i) => {
    const expected = golden.loss_per_case[name]!;
    checks.loss.compare(name, [losses[i]! / expected], [1]);
  });
  const mean = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
  checks.loss.compare("total", [mean / golden.loss], [1]);
  const tensors = await readGoldens(folder, "train.safetensors");
  await compareGradients({ model, backend, golden, tensors, check: checks.gradients });
  await compareTrace({ run, golden, check: checks.trace });
  run.close();
  return Object.values(checks).map((item) => item.row());
}

/** The cases with their greedy answers, one after the other; equal weight for every answer token. */
function packCases(
  samples: readonly { readonly goldens: ReadonlyMap<string, GoldenTensor> }[],
  imageTokenId: number,
): ProgramBatch & { readonly answers: readonly number[] } {
  const tokenIds: number[] = [];
  const positions: number[] = [];
  const visualRows: number[] = [];
  const scoredRows: number[] = [];
  const targets: number[] = [];
  const tiles: number[] = [];
  const answers: number[] = [];
  for (const { goldens } of samples) {
    const prompt = goldens.get("input_ids")!.values;
    const answer = goldens.get("greedy_ids")!.values;
    const start = tokenIds.length;
    [...prompt, ...answer].forEach((id, position) => {
      if (id === imageTokenId) visualRows.push(start + position);
      tokenIds.push(id);
      positions.push(position);
    });
    answer.forEach((id, i) => {
      scoredRows.push(start + prompt.length - 1 + i);
      targets.push(id);
    });
    answers.push(answer.length);
    for (const value of goldens.get("tiles_u8")?.values ?? []) tiles.push(value);
  }
  return {
    tokenIds: Int32Array.from(tokenIds),
    positions: Int32Array.from(positions),
    tiles: Uint8Array.from(tiles),
    visualRows: Int32Array.from(visualRows),
    scoredRows: Int32Array.from(scoredRows),
    targets: Int32Array.from(targets),
    weights: new Float32Array(targets.length).fill(1 / targets.length),
    answers,
  };
}

/** Gradients and losses of one batch, over and over. */
class TrainingRun {
  readonly backend: Backend;
  readonly model: TrainableModel;
  readonly #batch: ReturnType<typeof packCases>;
  readonly #pool: BufferPool;
  readonly #packed: PackedModel;
  #logprobs = new Float32Array(0);

  constructor(backend: Backend, model: TrainableModel, batch: ReturnType<typeof packCases>) {
    this.backend = backend;
    this.model = model;
    this.#batch = batch;
    this.#pool = new BufferPool(backend);
    this.#packed = new PackedModel(model, backend);
    model.set.choose(backend, () => true);
  }

  async gradients(): Promise<void> {
    const { backend, model } = this;
    const tensors = new BatchTensors(backend);
    const { parameters, set } = model;
    const head = parameters.decoder.head;
    const tape = new Tape({ backend, pool: this.#pool, parameters: set, head });
    const batch = this.#batch;
    const logits = await this.#packed.forward(tape, { batch, tensors });
    const logprob = tensors.f32(new Float32Array(batch.targets.length));
    scoreTokens(tape, {
      logits,
      target: tensors.i32(batch.targets),
      coefficient: tensors.f32(batch.weights.map((weight) => -weight)),
      logprob,
      entropy: tensors.f32(new Float32Array(batch.targets.length)),
    });
    tape.backward();
    this.#logprobs = await backend.read(logprob) as Float32Array<ArrayBuffer>;
    tensors.free();
  }

  /** Mean negative log probability of each case's answer. */
  losses(): number[] {
    let at = 0;
    return this.#batch.answers.map((count) => {
      const part = this.#logprobs.subarray(at, at += count);
      return part.reduce((sum, logprob) => sum - logprob, 0) / count;
    });
  }

  close(): void {
    this.#packed.close();
    this.#pool.close();
  }
}

/** Gradients by stored tensor name, each assembled from the parameters that lie in it. */
async function storedGradients(
  backend: Backend,
  parameters: readonly Parameter[],
): Promise<Map<string, Float32Array>> {
  const stored = new Map<string, Float32Array>();
  for (const parameter of parameters) {
    const { places } = parameter.info;
    const values = await readStore(backend, parameter.gradient!);
    const partSize = values.length / places.length;
    const { store } = parameter;
    const width = store.kind === "matrix" ? store.matrix.columns : 1;
    places.forEach(({ name, first, rows }, i) => {
      const whole = stored.get(name) ?? new Float32Array(rows * width);
      whole.set(values.subarray(i * partSize, (i + 1) * partSize), first * width);
      stored.set(name, whole);
    });
  }
  return stored;
}

async function compareGradients(
  args: {
    model: TrainableModel;
    backend: Backend;
    golden: TrainGolden;
    tensors: ReadonlyMap<string, GoldenTensor>;
    check: ParityCheck;
  },
): Promise<void> {
  const { model, backend, golden, tensors, check } = args;
  const stored = await storedGradients(backend, model.set.parameters);
  for (const [name, { values }] of tensors) {
    const tensor = name.replace(/^grad(_rows)?\./, "");
    const actual = stored.get(canonicalName(tensor) ?? "");
    assert(actual, `no gradient of ${tensor}`);
    const norm = golden.grad_norm_per_tensor[tensor]!;
    const scaled = (source: ArrayLike<number>) =>
      Array.from({ length: values.length }, (_, i) => source[i]! / norm);
    check.compare(tensor, scaled(actual), scaled(values));
    let squares = 0;
    for (const value of actual) squares += value * value;
    check.compare(`${tensor} norm`, [Math.sqrt(squares) / norm], [1]);
  }
}

async function compareTrace(
  args: { run: TrainingRun; golden: TrainGolden; check: ParityCheck },
): Promise<void> {
  const { run, golden: { adamw }, check } = args;
  const [beta1, beta2] = adamw.betas;
  const { eps: epsilon, clip_grad_norm: normMax, lr: rate, weight_decay: decay } = adamw;
  const options = { beta1, beta2, epsilon, normMax };
  const optimizer = new Optimizer(run.backend, run.model.set, options);
  for (const [i, expected] of adamw.trace.entries()) {
    if (i > 0) await run.gradients();
    const losses = run.losses();
    const loss = losses.reduce((sum, value) => sum + value, 0) / losses.length;
    optimizer.step(() => ({ rate, decay }));
    const norm = await optimizer.readNorm();
    const step = [loss / expected.loss, norm / expected.grad_norm];
    check.compare(`step ${i + 1}`, step, [1, 1]);
  }
  optimizer.close();
}

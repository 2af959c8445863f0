/**
 * Supervised training of tiny language models: per-token losses, the packed loss (and that no
 * sample sees another), all gradients, steps of AdamW, and the balance loss of experts. The vision
 * tower that our models have is drawn and unused.
 */
import type { Backend } from "@/kernels/backend.ts";
import { readLanguageConfig } from "@/model/config.ts";
import { impliedTensors } from "@/model/parameters.ts";
import type { ProgramBatch } from "@/training/packed_forward.ts";
import { readStore } from "@/training/parameter_values.ts";
import { type StepResult, Trainer } from "@/training/trainer.ts";
import { loadTrainable, type TrainableModel } from "@/training/training_source.ts";
import { Checkpoint } from "@/weights/checkpoint.ts";
import { canonicalName } from "@/weights/names.ts";
import type { StoredTensor } from "@/weights/safetensors.ts";
import { syntheticTensor } from "@/weights/synthetic.ts";
import { type Fixture, readJson } from "./parity_fixtures.ts";
import { ParityCheck, type ParityRow } from "./parity_report.ts";

interface SftCase {
  readonly id: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly weights: Readonly<Record<string, { shape: readonly number[]; data: readonly number[] }>>;
  readonly sequences: readonly { input_ids: readonly number[]; labels: readonly number[] }[];
  readonly expected: {
    readonly per_token_loss: readonly (readonly number[])[];
    readonly grads: Readonly<Record<string, readonly number[]>>;
    readonly packed: { readonly loss: number };
    readonly wrong_if_mask_leaks: number;
    readonly moe_first_sequence?: { readonly aux_loss: number };
    readonly adamw_trace: {
      readonly lr: number;
      readonly betas: readonly [number, number];
      readonly eps: number;
      readonly weight_decay: number;
      readonly clip: number;
      readonly steps: readonly { readonly loss: number; readonly grad_norm: number }[];
    };
  };
}

/** Relative to the loss; to the tensor's largest gradient; to the value. */
const tolerance = { loss: 1e-5, gradient: 1e-3, trace: 1e-4, balance: 1e-4 };

/** Checks one `tiny_qwen3_sft.json`. */
export async function languageParity(fixture: Fixture, backend: Backend): Promise<ParityRow[]> {
  const { cases } = await readJson<{ cases: readonly SftCase[] }>(fixture.path);
  const label = `${backend.name} ${backend.description.variant}`;
  const check = (name: string, allowed: number) =>
    new ParityCheck(fixture.name, `${label}: ${name}`, allowed);
  const checks = {
    loss: check("losses", tolerance.loss),
    gradients: check("gradients", tolerance.gradient),
    trace: check("AdamW trace", tolerance.trace),
    balance: check("balance loss", tolerance.balance),
  };
  for (const sft of cases) await checkCase(sft, backend, checks);
  return Object.values(checks).map((item) => item.row());
}

type Checks = Record<"loss" | "gradients" | "trace" | "balance", ParityCheck>;

async function checkCase(sft: SftCase, backend: Backend, checks: Checks): Promise<void> {
  const { id, expected } = sft;
  const { betas: [beta1, beta2], ...trace } = expected.adamw_trace;
  const model = await loadCase(sft, backend);
  model.set.choose(backend, ({ part }) => part === "decoder");
  const trainer = new Trainer({
    backend,
    model,
    optimizer: { beta1, beta2, epsilon: trace.eps, normMax: trace.clip },
  });
  for (const [i, sequence] of sft.sequences.entries()) {
    const { logprobs } = await trainer.score(pack([sequence]));
    const losses = expected.per_token_loss[i]!.filter((loss) => loss !== 0);
    const ratios = losses.map((loss, j) => -logprobs[j]! / loss);
    checks.loss.compare(`${id} sequence ${i}`, ratios, losses.map(() => 1));
  }
  const batch = pack(sft.sequences);
  const rate = { rate: trace.lr, decay: trace.weight_decay };
  let first: StepResult | undefined;
  for (const [i, step] of trace.steps.entries()) {
    const result = await trainer.step([batch], () => rate);
    first ??= result;
    const ratios = [result.loss / step.loss, result.gradientNorm / step.grad_norm];
    checks.trace.compare(`${id} step ${i + 1}`, ratios, [1, 1]);
    // The step leaves its gradients where they are.
    if (i === 0) await compareGradients(sft, model, backend, checks.gradients);
  }
  const { packed, wrong_if_mask_leaks: leak } = expected;
  checks.loss.compare(`${id} packed`, [first!.loss / packed.loss], [1]);
  checks.loss.record(`${id} leak`, Math.abs(first!.loss - leak) > 1e-5, "samples see each other");
  trainer.close();
  if (expected.moe_first_sequence) {
    const fresh = await loadCase(sft, backend);
    fresh.set.choose(backend, ({ part }) => part === "decoder");
    const optimizer = { beta1, beta2, epsilon: trace.eps, normMax: 0 };
    const second = new Trainer({ backend, model: fresh, optimizer });
    const { balance } = await second.step([pack(sft.sequences.slice(0, 1))], () => rate);
    const ratio = balance! / expected.moe_first_sequence.aux_loss;
    checks.balance.compare(`${id} first sequence`, [ratio], [1]);
    second.close();
  }
}

/** Samples one after the other, all answer tokens with weight 1. */
function pack(sequences: SftCase["sequences"]): ProgramBatch {
  const [tokenIds, positions, scoredRows, targets] = [[], [], [], []] as number[][];
  for (const { input_ids, labels } of sequences) {
    const start = tokenIds!.length;
    for (const [position, id] of input_ids.entries()) {
      tokenIds!.push(id);
      positions!.push(position);
      const label = labels[position + 1];
      if (label === undefined || label < 0) continue;
      scoredRows!.push(start + position);
      targets!.push(label);
    }
  }
  return {
    tokenIds: Int32Array.from(tokenIds!),
    positions: Int32Array.from(positions!),
    tiles: new Uint8Array(0),
    visualRows: new Int32Array(0),
    scoredRows: Int32Array.from(scoredRows!),
    targets: Int32Array.from(targets!),
    weights: new Float32Array(targets!.length).fill(1),
  };
}

async function loadCase(sft: SftCase, backend: Backend): Promise<TrainableModel> {
  // Some keys of the configuration lie beside it.
  const { id: _, weights, sequences: __, expected: ___, config: inner, ...beside } = sft;
  const config = readLanguageConfig({ ...beside, ...inner });
  const stored = new Map<string, StoredTensor>();
  for (const [name, shape] of await impliedTensors(config)) {
    if (!name.startsWith("decoder.")) stored.set(name, syntheticTensor(name, shape));
  }
  for (const [name, { shape, data }] of Object.entries(weights)) {
    const canonical = canonicalName(name);
    if (canonical !== undefined) stored.set(canonical, memoryTensor(canonical, shape, data));
  }
  const folder = { label: sft.id, names: () => Promise.resolve([]), open: nothing };
  const checkpoint = Checkpoint.withTensors(folder, stored.values());
  return await loadTrainable({ checkpoint, config, backend });
}

const nothing = (name: string) => Promise.reject(new Deno.errors.NotFound(name));

function memoryTensor(
  name: string,
  shape: readonly number[],
  data: readonly number[],
): StoredTensor {
  const bytes = new Uint8Array(Float32Array.from(data).buffer);
  const part = (offset: number, length: number) => bytes.slice(offset, offset + length);
  const source = {
    name,
    sizeBytes: bytes.length,
    read: (offset: number, length: number) => Promise.resolve(part(offset, length)),
    readInto: (offset: number, target: Uint8Array) => {
      target.set(part(offset, target.length));
      return Promise.resolve();
    },
    close: () => {},
  };
  return { name, dtype: "F32", shape, source, offset: 0, sizeBytes: bytes.length };
}

async function compareGradients(
  sft: SftCase,
  { set }: TrainableModel,
  backend: Backend,
  check: ParityCheck,
): Promise<void> {
  for (const [stored, expected] of Object.entries(sft.expected.grads)) {
    const name = canonicalName(stored);
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-12);
    for (const parameter of set.trainable) {
      const { places } = parameter.info;
      const values = await readStore(backend, parameter.gradient!);
      const partSize = values.length / places.length;
      const { store } = parameter;
      const width = store.kind === "matrix" ? store.matrix.columns : 1;
      for (const [i, place] of places.entries()) {
        if (place.name !== name) continue;
        const from = place.first * width;
        const wanted = expected.slice(from, from + partSize).map((value) => value / largest);
        const got = values.subarray(i * partSize, (i + 1) * partSize);
        check.compare(`${sft.id} ${stored}`, got.map((value) => value / largest), wanted);
      }
    }
  }
}

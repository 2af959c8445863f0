/**
 * Golden tensors of a checkpoint against a backend: tower, adapter, residual stream, router,
 * logits and greedy tokens, with weights and arithmetic in float32.
 */
import { dirname, join } from "node:path";
import type { Backend } from "@/kernels/backend.ts";
import { loadModel } from "@/model/load.ts";
import type { VisionLanguageModel } from "@/model/vlm.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { GoldenPrompt, promptBounds } from "./golden_prompt.ts";
import { type Fixture, type GoldenTensor, readGoldens, readJson } from "./parity_fixtures.ts";
import { ParityCheck, type ParityRow } from "./parity_report.ts";

/** Fields of golden/cases.json that parity reads. */
export interface GoldenCases {
  readonly image_token_id: number;
  /** Ids from here on are special tokens and padding. */
  readonly base_vocab: number;
  readonly cases: readonly GoldenCase[];
}

export interface GoldenCase {
  readonly name: string;
  readonly prompt: string;
  readonly images: readonly string[];
  readonly max_num: readonly number[];
  readonly sparse_layers: readonly number[];
}

/** Strict float32 tolerances of the fixtures. */
const tolerance = { vision: 2e-5, hidden: 2e-4, logits: 1e-4 };

/** Checks every case of one model fixture; rows are labelled with the backend. */
export async function modelParity(fixture: Fixture, backend: Backend): Promise<ParityRow[]> {
  const golden = dirname(fixture.path);
  const { model } = await loadModel({
    folder: diskFolder(dirname(golden)),
    backend,
    bounds: promptBounds,
  });
  const { cases, image_token_id: imageTokenId } = await readJson<GoldenCases>(fixture.path);
  const label = `${backend.name} ${backend.description.variant}`;
  const check = (name: string, allowed: number) =>
    new ParityCheck(fixture.name, `${label}: ${name}`, allowed);
  const checks = {
    vision: check("vision, adapter", tolerance.vision),
    hidden: check("hidden, router", tolerance.hidden),
    logits: check("logits", tolerance.logits),
    greedy: check("greedy ids", 0),
  };
  for (const goldenCase of cases) {
    const goldens = await readGoldens(golden, `${goldenCase.name}.safetensors`);
    await new CaseRun({ model, goldenCase, goldens, checks, imageTokenId }).run();
  }
  return Object.values(checks).map((item) => item.row());
}

type Checks = Record<"vision" | "hidden" | "logits" | "greedy", ParityCheck>;

class CaseRun {
  readonly #model: VisionLanguageModel;
  readonly #case: GoldenCase;
  readonly #goldens: Map<string, GoldenTensor>;
  readonly #checks: Checks;
  readonly #imageTokenId: number;
  readonly #tapped = new Map<string, Tensor>();
  readonly #prompt: GoldenPrompt;

  constructor(args: {
    model: VisionLanguageModel;
    goldenCase: GoldenCase;
    goldens: Map<string, GoldenTensor>;
    checks: Checks;
    imageTokenId: number;
  }) {
    this.#model = args.model;
    this.#case = args.goldenCase;
    this.#goldens = args.goldens;
    this.#checks = args.checks;
    this.#imageTokenId = args.imageTokenId;
    this.#prompt = new GoldenPrompt(args);
    args.model.tap = (name, tensor) => this.#keep(name, tensor);
  }

  async run(): Promise<void> {
    await this.#prompt.encode();
    await this.#compareVision();
    await this.#prompt.forward(this.#prompt.ids, 0, true);
    await this.#compareDecoder();
    this.#model.tap = undefined;
    await this.#greedy();
    for (const tensor of this.#tapped.values()) this.#model.backend.free(tensor);
    this.#prompt.free();
  }

  #golden(name: string): GoldenTensor {
    const tensor = this.#goldens.get(name);
    if (!tensor) throw new RangeError(`Golden tensor ${name} is missing in ${this.#case.name}`);
    return tensor;
  }

  /** Copies a tensor that the program is about to reuse. */
  #keep(name: string, tensor: Tensor): void {
    const { backend } = this.#model;
    const copy = backend.allocate("f32", tensor.shape);
    const [rowCount, width] = tensor.shape as [number, number];
    backend.ops.copyRows({ source: tensor, out: copy, width, rowCount });
    this.#tapped.set(name, copy);
  }

  async #kept(name: string): Promise<Float32Array> {
    return await this.#model.backend.read(this.#tapped.get(name)!) as Float32Array;
  }

  async #compareVision(): Promise<void> {
    const { visual } = this.#prompt;
    if (!visual) return;
    const check = this.#checks.vision;
    const compareTile0 = async (goldenName: string, name: string): Promise<void> => {
      const golden = this.#goldens.get(goldenName);
      if (!golden || !this.#tapped.has(name)) return;
      const values = (await this.#kept(name)).subarray(0, golden.values.length);
      check.compare(`${this.#case.name} ${goldenName}`, values, golden.values);
    };
    await compareTile0("vit_tile0_patch_embed", "vision.patch");
    for (let k = 0; this.#goldens.has(`vit_tile0_block${k}`); k++) {
      await compareTile0(`vit_tile0_block${k}`, `vision.layer.${k}`);
    }
    await compareTile0("vit_tile0_post_norm", "vision.norm");
    const features = await this.#kept("vision.features");
    check.compare(`${this.#case.name} vit_output`, features, this.#golden("vit_output").values);
    const adapted = await this.#model.backend.read(visual) as Float32Array;
    check.compare(
      `${this.#case.name} adapter_output`,
      adapted,
      this.#golden("adapter_output").values,
    );
  }

  async #compareDecoder(): Promise<void> {
    const { hidden, logits } = this.#checks;
    const compareTail = async (
      goldenName: string,
      name: string,
      tail: { check: ParityCheck; relative: number },
    ): Promise<void> => {
      const golden = this.#goldens.get(goldenName);
      if (!golden) return;
      const values = await this.#kept(name);
      const last = values.subarray(values.length - golden.values.length);
      tail.check.compare(`${this.#case.name} ${goldenName}`, last, golden.values, tail.relative);
    };
    const { layers } = this.#model.kvShape;
    for (let k = 0; k <= layers; k++) {
      await compareTail(`hidden_${k}`, `hidden.${k}`, { check: hidden, relative: 1e-5 });
    }
    await compareTail("final_norm", "finalNorm", { check: hidden, relative: 1e-5 });
    for (const [j, layer] of this.#case.sparse_layers.entries()) {
      const name = `gateLogits.${layer}`;
      await compareTail(`router_logits_${j}`, name, { check: hidden, relative: 1e-5 });
    }
    await compareTail("logits", "logits", { check: logits, relative: 0 });
    await this.#compareEveryPosition();
  }

  async #compareEveryPosition(): Promise<void> {
    const values = await this.#kept("logits");
    const width = this.#model.vocabularySize;
    const rows = this.#prompt.ids.length;
    const argmax = new Int32Array(rows);
    const max = new Float32Array(rows);
    const lse = new Float32Array(rows);
    for (let row = 0; row < rows; row++) {
      const line = values.subarray(row * width, (row + 1) * width);
      let best = 0;
      for (let i = 1; i < width; i++) if (line[i]! > line[best]!) best = i;
      argmax[row] = best;
      max[row] = line[best]!;
      lse[row] = line[best]! +
        Math.log(line.reduce((sum, value) => sum + Math.exp(value - line[best]!), 0));
    }
    const { logits } = this.#checks;
    const at = this.#case.name;
    logits.compare(`${at} logits_max_all`, max, this.#golden("logits_max_all").values);
    logits.compare(`${at} logits_lse_all`, lse, this.#golden("logits_lse_all").values);
    this.#compareArgmax(argmax, values);
  }

  /** Equal ids, except where the two best logits are closer than float32 noise. */
  #compareArgmax(argmax: Int32Array, logits: Float32Array): void {
    const golden = this.#golden("logits_argmax_all").values;
    const width = this.#model.vocabularySize;
    for (let row = 0; row < argmax.length; row++) {
      const gap = logits[row * width + argmax[row]!]! - logits[row * width + golden[row]!]!;
      const ok = argmax[row] === golden[row] || gap <= 2 * tolerance.logits;
      this.#checks.greedy.record(`${this.#case.name} argmax at ${row}`, ok);
    }
  }

  async #greedy(): Promise<void> {
    const golden = this.#golden("greedy_ids").values;
    const ids = [...this.#prompt.ids];
    let logits = await this.#prompt.forward(ids, 0, false);
    for (let step = 0; step < golden.length; step++) {
      const line = await this.#model.backend.read(logits) as Float32Array;
      let best = 0;
      for (let i = 1; i < line.length; i++) if (line[i]! > line[best]!) best = i;
      this.#checks.greedy.record(`${this.#case.name} greedy ${step}`, best === golden[step]);
      this.#compareTop5(step, line);
      ids.push(best);
      logits = await this.#prompt.forward([best], ids.length - 1, false);
    }
    await this.#model.backend.flush();
  }

  #compareTop5(step: number, line: Float32Array): void {
    const ids = this.#golden("greedy_top5_ids").values;
    const expected = this.#golden("greedy_top5_logits").values;
    const at = [...ids.subarray(step * 5, step * 5 + 5)].map((id) => line[id]!);
    this.#checks.logits.compare(
      `${this.#case.name} top-5 at ${step}`,
      at,
      expected.subarray(step * 5, step * 5 + 5),
    );
  }
}

/** Folder of the checkpoint that a model fixture belongs to. */
export function checkpointFolder(fixture: Fixture): string {
  return join(dirname(fixture.path), "..");
}

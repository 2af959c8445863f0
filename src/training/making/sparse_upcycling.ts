/**
 * Sparse upcycling: a dense model becomes one of experts. Every expert starts as the dense MLP with
 * a little noise, the router at random, so that the new model answers nearly like the old one and
 * training makes the experts differ. (Komatsuzaki et al., 2212.05055.)
 */
import { assert } from "@/assert.ts";
import { seededRandom } from "@/random.ts";
import { type ModelTensor, type WholeModel, withConfig } from "./model_folder.ts";
import { normal } from "./random_weights.ts";

export interface UpcyclingOptions {
  readonly experts: number;
  readonly expertsPerToken: number;
  /** Deviation of the experts' noise as a share of each matrix's own deviation. */
  readonly noise: number;
  readonly seed: number;
}

/** Deviation of the router's rows. */
const ROUTER_DEVIATION = 0.02;

/** Chosen probabilities are divided by their sum: equal experts give exactly the dense MLP. */
export function upcycleModel(model: WholeModel, options: UpcyclingOptions): WholeModel {
  const { experts, expertsPerToken, noise, seed } = options;
  const { decoder } = model.config;
  assert(!decoder.moe, "only a dense model becomes a sparse one");
  const random = seededRandom(seed);
  const tensors = new Map<string, ModelTensor>();
  for (const [name, tensor] of model.tensors) {
    const match = /^decoder\.(\d+)\.(gate|up|down)\.weight$/.exec(name);
    if (!match) {
      tensors.set(name, tensor);
      continue;
    }
    const [, layer, part] = match;
    const deviation = noise * deviationOf(tensor.values);
    for (let expert = 0; expert < experts; expert++) {
      const values = tensor.values.map((value) => value + deviation * normal(random));
      const { shape } = tensor;
      tensors.set(`decoder.${layer}.experts.${expert}.${part}.weight`, { shape, values });
    }
    if (part !== "gate") continue;
    const width = decoder.hiddenWidth;
    const router = Float32Array.from({ length: experts * width }, () => {
      return ROUTER_DEVIATION * normal(random);
    });
    tensors.set(`decoder.${layer}.moeGate.weight`, { shape: [experts, width], values: router });
  }
  const moe = {
    experts,
    expertsPerToken,
    intermediateWidth: decoder.intermediateWidth,
    normalizeTopK: true,
    sparseStep: 1,
    denseLayers: [],
  };
  return withConfig({ ...model, tensors }, { ...model.config, decoder: { ...decoder, moe } });
}

function deviationOf(values: Float32Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const square = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  return Math.sqrt(square);
}

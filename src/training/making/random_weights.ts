/** A model's first weights, drawn from a seed: what training starts from when there is nothing. */
import type { ModelConfig } from "@/model/config.ts";
import { impliedTensors } from "@/model/parameters.ts";
import { hashText } from "@/data/dice.ts";
import { hashWords, seededRandom } from "@/random.ts";
import { elementCount } from "@/tensor/dtype.ts";
import { releasedShape } from "../weights_file.ts";
import type { ModelTensor } from "./model_folder.ts";

/**
 * Large on purpose: the patch norm gives every patch unit size, so positions that start at the usual
 * 0.02 are invisible and reading never begins.
 */
const POSITION_DEVIATION = 0.7;
const EMBEDDING_DEVIATION = 0.02;

/** By canonical name; each tensor depends on the seed and its name alone. */
export async function randomWeights(
  config: ModelConfig,
  seed: number,
): Promise<Map<string, ModelTensor>> {
  const tensors = new Map<string, ModelTensor>();
  for (const [name, shape] of await impliedTensors(config)) {
    const random = seededRandom(hashWords(seed, hashText(name)));
    const draw = drawOf(name, shape, random);
    const values = Float32Array.from({ length: elementCount(shape) }, draw);
    tensors.set(name, { shape: releasedShape(name, shape, config), values });
  }
  return tensors;
}

/** Norms are 1, biases 0, positions and embeddings normal, linears uniform within 1/√columns. */
function drawOf(name: string, shape: readonly number[], random: () => number): () => number {
  if (name === "vision.position") return () => POSITION_DEVIATION * normal(random);
  if (name === "decoder.embedding") return () => EMBEDDING_DEVIATION * normal(random);
  if (shape.length === 1) return /[nN]orm\.weight$/.test(name) ? () => 1 : () => 0;
  const reach = shape.at(-1)! ** -0.5;
  return () => (2 * random() - 1) * reach;
}

/** A standard normal number (Box-Muller). */
export function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

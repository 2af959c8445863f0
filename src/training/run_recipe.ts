/**
 * The recipe of one training run, as a JSON file: which model, which parts of it learn, from which
 * makers' samples, how many, how fast. Stages of several runs are above this.
 */
import { z } from "zod";
import { makers } from "@/data/makers/maker_registry.ts";
import { OperatingError } from "@/errors.ts";
import type { ModelPart } from "./parameter_set.ts";

const positive = z.number().positive();
const count = z.number().int().min(1);

const schema = z.strictObject({
  /** Folder of the checkpoint to start from, beside the recipe unless absolute. */
  model: z.string().min(1),
  seed: z.number().int().min(0).default(0),
  steps: count,
  /** Parts that learn. */
  learns: z.array(z.enum(["vision", "adapter", "decoder"])).min(1)
    .default(["vision", "adapter", "decoder"]),
  data: z.strictObject({
    sources: z.array(z.strictObject({
      maker: z.string().refine((name) => Object.hasOwn(makers, name), "no maker has this name"),
      weight: positive.default(1),
    })).min(1),
    /** Tokens of one micro-batch, and micro-batches of one step. */
    batchTokens: count,
    microBatches: count.default(1),
    thinking: z.boolean().default(false),
  }),
  optimizer: z.strictObject({
    rate: positive,
    /** Factors of parts on the rate. */
    factors: z.partialRecord(z.enum(["vision", "adapter", "decoder"]), positive).default({}),
    warmupSteps: z.number().int().min(0).default(0),
    /** At the end, as a part of the rate; falls like a cosine. */
    endFactor: z.number().min(0).max(1).default(0.1),
    decay: z.number().min(0).default(0.1),
    beta1: z.number().min(0).lt(1).default(0.9),
    beta2: z.number().min(0).lt(1).default(0.95),
    epsilon: positive.default(1e-8),
    normMax: z.number().min(0).default(1),
  }),
  checkpointing: z.boolean().default(false),
  router: z.strictObject({ balance: z.number().min(0), z: z.number().min(0) })
    .default({ balance: 0.001, z: 0 }),
  checkpointSteps: count.default(100),
  checkpointsKept: count.default(2),
});

export type RunRecipe = z.infer<typeof schema>;

/** Parses a recipe; throws OperatingError that names every wrong field. */
export function parseRecipe(text: string, label: string): RunRecipe {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new OperatingError("invalid_request", `Cannot use ${label}: it is not JSON`, { cause });
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
  throw new OperatingError("invalid_request", `Cannot use ${label}: ${problems.join("; ")}`);
}

/** Factor of the rate at a step, counted from 0: linear warm-up, then a cosine. */
export function cosineFactor(
  { steps, optimizer }: Pick<RunRecipe, "steps" | "optimizer">,
  step: number,
): number {
  const { warmupSteps, endFactor } = optimizer;
  if (step < warmupSteps) return (step + 1) / warmupSteps;
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, steps - warmupSteps));
  return endFactor + (1 - endFactor) * (1 + Math.cos(Math.PI * progress)) / 2;
}

/** Factor of a part on the rate. */
export function partFactor({ optimizer }: RunRecipe, part: ModelPart): number {
  return optimizer.factors[part] ?? 1;
}

/**
 * What a training stage is, as validated data: what learns, from which mixture, at what rate, for how
 * long. The one form of a recipe, shipped or in a JSON file. One file per stage beside this one;
 * `recipe_book.ts` has them in order.
 */
import { z } from "zod";
import { OperatingError } from "@/errors.ts";
import { taskNames } from "@/data/makers/maker_registry.ts";
import { type RateSchedule, scheduleProblem } from "../control/rate_schedule.ts";
import { loraTargets } from "../lora_targets.ts";
import { rewardWeightProblem } from "../policy/rewards.ts";

const count = z.number().int().positive();
const whole = z.number().int().min(0);
const share = z.number().min(0).max(1);
const part = z.enum(["vision", "adapter", "decoder"]);
/** Parts that are layers in a row, the first of which may stay as they are. */
const layeredPart = part.extract(["vision", "decoder"]);
const task = z.enum(taskNames as [string, ...string[]]);

/** The whole of a schedule is `steps` of the recipe. */
const schedule = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("constant"), warmupSteps: whole.default(0) }),
  z.strictObject({
    kind: z.literal("cosine"),
    warmupSteps: whole.default(0),
    /** Factor of the peak rate at the end. */
    endFactor: share.default(0),
  }),
  z.strictObject({
    kind: z.literal("wsd"),
    warmupSteps: whole.default(0),
    decaySteps: whole,
    decayShape: z.enum(["linear", "sqrt"]).default("linear"),
    endFactor: share.default(0),
  }),
]);

const optimizer = z.strictObject({
  /** `muon`: for the matrices of decoder layers, AdamW for everything else. */
  kind: z.enum(["adamw", "muon"]).default("adamw"),
  /** Share of Muon's running gradient that stays in a step. */
  momentum: share.lt(1).default(0.95),
  /** Rate at the peak of the schedule; Muon's steps have the size of AdamW's. */
  peakRate: z.number().positive(),
  /** Factors of the rate for parts that learn at another one. */
  partRates: z.partialRecord(part, z.number().positive()).exactOptional(),
  /** Of matrices; norms and biases do not decay. */
  weightDecay: z.number().min(0).default(0.05),
  betas: z.tuple([share.lt(1), share.lt(1)]).default([0.9, 0.98]),
  epsilon: z.number().positive().default(1e-8),
  /** Largest global norm of the gradient. */
  clipNorm: z.number().positive().default(1),
});

const packing = z.strictObject({
  /** Token rows of one micro-batch. */
  tokensMax: count.default(1536),
  /** Visual tokens of one micro-batch; absent: as many as fit. */
  visualTokensMax: count.exactOptional(),
  /** Micro-batches of one step, evened out against each other. */
  packsTogether: count.default(4),
  /** Waiting samples that the packer chooses from. */
  bufferSamples: count.default(96),
  /** Rounds after which a sample is taken before all others. */
  roundsWaitedMax: whole.default(4),
});

/** Settings of the makers over those of the full difficulty, see `MakerSettings`. */
const makers = z.strictObject({
  side: z.number().int().min(32).max(2048).exactOptional(),
  otherSizes: share.exactOptional(),
  newDesigns: share.exactOptional(),
  lengthMax: count.exactOptional(),
  spread: share.exactOptional(),
  spoiling: z.number().min(0).exactOptional(),
  wording: share.exactOptional(),
});

const data = z.strictObject({
  seed: whole.default(0),
  /** Weights of the makers' tasks. */
  mixture: z.partialRecord(task, z.number().min(0)).default({}),
  /** The user's own conversations, see `data_file.ts`; paths start at the recipe. */
  files: z.array(z.strictObject({
    path: z.string().min(1),
    weight: z.number().positive().default(1),
  })).min(1).exactOptional(),
  /** Share of samples with a thought that are asked to think. */
  thinkingShare: share.default(0),
  /** Difficulty rises by accuracy, from the first level; absent: full difficulty. */
  curriculum: z.strictObject({
    threshold: share.default(0.8),
    window: count.default(256),
    /** Whose answers count; absent: the reading tasks of the mixture, or all. */
    tasks: z.array(task).min(1).exactOptional(),
  }).exactOptional(),
  makers: makers.exactOptional(),
  /** Samples of each task before its makers begin again, as with a finite set; absent: no end. */
  distinctSamples: count.exactOptional(),
});

/** Low-rank additions to frozen matrices of the decoder. */
const lora = z.strictObject({
  rank: count.default(8),
  /** The addition is multiplied by alpha / rank. */
  alpha: z.number().positive().default(16),
  targets: z.array(z.enum(loraTargets)).min(1).default([...loraTargets]),
});

const name = z.string().regex(/^[a-z0-9_-]+$/);
/** What the stage is for, in a sentence. */
const purpose = z.string();

const training = {
  name,
  purpose,
  /** Parts that learn as a whole. */
  trainable: z.array(part),
  /** First layers of a part that stay as they are, and all that lies before them. */
  frozenLayers: z.partialRecord(layeredPart, count).exactOptional(),
  data,
  optimizer,
  schedule: schedule.prefault({ kind: "constant" }),
  steps: count,
  /** Weight of the experts' load-balance loss; dense models ignore it. */
  balanceWeight: z.number().min(0).default(1e-3),
  /** Weight of the gates' z-loss. */
  zLossWeight: z.number().min(0).default(0),
  /** Compute the inside of layers again instead of keeping it: less memory, the same bits. */
  activationCheckpointing: z.boolean().default(false),
  checkpoints: z.strictObject({ everySteps: count.default(100), kept: count.default(2) })
    .prefault({}),
  lora: lora.exactOptional(),
};

const adaptiveRate = z.strictObject({
  windowSteps: z.number().int().min(3).default(100),
  up: z.number().min(1).default(3),
  down: z.number().min(1).default(2),
  shrink: share.default(0.99),
  /** Part of the steps in which the search runs. */
  searchFrom: share.default(0.1),
  searchTo: share.default(0.4),
});

const supervised = z.strictObject({
  kind: z.literal("supervised"),
  ...training,
  packing: packing.prefault({}),
  lossReduction: z.enum(["token", "sample", "square"]).default("token"),
  adaptiveRate: adaptiveRate.exactOptional(),
  /** Weight of the cues' loss beside that of the answers; 0: the vision tower is asked none. */
  cueWeight: z.number().min(0).default(0),
  /** Weight of the same questions asked of the visual tokens, behind the adapter. */
  tokenCueWeight: z.number().min(0).default(0),
  /** Steps between measurements of greedy accuracy; with a curriculum every step is measured. */
  accuracySteps: count.default(10),
});

const reinforcement = z.strictObject({
  kind: z.literal("reinforcement"),
  ...training,
  /** `auto`: DAPO for dense models, GSPO for sparse ones. */
  algorithm: z.enum(["auto", "dapo", "gspo"]).default("auto"),
  clip: z.strictObject({ low: z.number().positive(), high: z.number().positive() })
    .default({ low: 0.2, high: 0.28 }),
  promptsPerStep: count.default(32),
  answersPerPrompt: z.number().int().min(2).default(8),
  updatesPerStep: count.default(2),
  temperature: z.number().positive().default(1),
  answerTokensMax: count.default(96),
  overlongBufferTokens: count.default(24),
  /** Times that a step draws new prompts for groups that teach nothing. */
  resampleMax: whole.default(3),
  /** Weights of the reward's parts; they sum to 1. */
  reward: z.strictObject({ accuracy: share, format: share, thought: share })
    .default({ accuracy: 0.9, format: 0.1, thought: 0 }),
  /** Tries per prompt of the difficulty filter before the stage; 0 = no filter. */
  difficultyTries: whole.default(0),
});

const soup = z.strictObject({
  kind: z.literal("soup"),
  name,
  purpose,
  /** Runs of these stages, with these seeds, are averaged. */
  stage: z.string(),
  seeds: z.array(whole).min(2),
  method: z.enum(["uniform", "greedy"]).default("uniform"),
});

const schema = z.discriminatedUnion("kind", [supervised, reinforcement, soup])
  .superRefine((recipe, context) => {
    for (const { field, problem } of contradictions(recipe)) {
      context.addIssue({ code: "custom", path: field.split("."), message: problem });
    }
  });

export type Recipe = z.infer<typeof schema>;
export type SupervisedRecipe = z.infer<typeof supervised>;
export type ReinforcementRecipe = z.infer<typeof reinforcement>;
export type SoupRecipe = z.infer<typeof soup>;
/** A recipe that runs steps of an optimiser. */
export type TrainingRecipe = SupervisedRecipe | ReinforcementRecipe;
export type RecipeData = z.infer<typeof data>;
export type LoraRecipe = z.infer<typeof lora>;

/** A recipe in code: names and values checked, defaults filled in. */
export function supervisedRecipe(recipe: Omit<z.input<typeof supervised>, "kind">) {
  return schema.parse({ kind: "supervised", ...recipe }) as SupervisedRecipe;
}

export function reinforcementRecipe(recipe: Omit<z.input<typeof reinforcement>, "kind">) {
  return schema.parse({ kind: "reinforcement", ...recipe }) as ReinforcementRecipe;
}

export function soupRecipe(recipe: Omit<z.input<typeof soup>, "kind">) {
  return schema.parse({ kind: "soup", ...recipe }) as SoupRecipe;
}

/** Fields that are right alone and wrong together. */
function* contradictions(recipe: Recipe): Generator<{ field: string; problem: string }> {
  if (recipe.kind === "soup") return;
  const problem = scheduleProblem(rateSchedule(recipe));
  if (problem) yield { field: "schedule", problem };
  if (recipe.trainable.length === 0 && !recipe.lora) {
    yield { field: "trainable", problem: "nothing learns" };
  }
  for (const frozen of layeredPart.options) {
    if (recipe.frozenLayers?.[frozen] === undefined || recipe.trainable.includes(frozen)) continue;
    yield { field: `frozenLayers.${frozen}`, problem: `all of the ${frozen} is frozen` };
  }
  if (recipe.lora && recipe.trainable.includes("decoder")) {
    yield { field: "trainable", problem: "the decoder learns as a whole and by lora" };
  }
  const { files, mixture, curriculum } = recipe.data;
  const hasTasks = Object.values(mixture).some((weight) => weight! > 0);
  if (!hasTasks && !files) yield { field: "data.mixture", problem: "is empty" };
  if (!hasTasks && files && curriculum) {
    yield { field: "data.curriculum", problem: "files have no levels of difficulty" };
  }
  if (
    recipe.kind === "supervised" && recipe.cueWeight > 0 && !recipe.trainable.includes("vision")
  ) {
    yield { field: "cueWeight", problem: "cues teach the vision tower, which is frozen" };
  }
  if (
    recipe.kind === "supervised" && recipe.tokenCueWeight > 0 &&
    !recipe.trainable.some((part) => part === "vision" || part === "adapter")
  ) {
    const problem = "cues of visual tokens teach tower and adapter, which are frozen";
    yield { field: "tokenCueWeight", problem };
  }
  if (recipe.kind === "reinforcement") {
    if (files) yield { field: "data.files", problem: "no rule can check their answers" };
    const problem = rewardWeightProblem(recipe.reward);
    if (problem) yield { field: "reward", problem };
  } else if (recipe.adaptiveRate) {
    const { searchFrom, searchTo, windowSteps } = recipe.adaptiveRate;
    const room = (searchTo - searchFrom) * recipe.steps;
    if (room < 2 * windowSteps) {
      const problem = `two windows of ${windowSteps} steps do not fit into a search of ${room}`;
      yield { field: "adaptiveRate.windowSteps", problem };
    }
  }
}

/** The schedule of a recipe's rate over its steps. */
export function rateSchedule(
  { schedule, steps }: Pick<TrainingRecipe, "schedule" | "steps">,
): RateSchedule {
  return schedule.kind === "constant" ? schedule : { ...schedule, totalSteps: steps };
}

/** What a file need not say. */
function implied(value: unknown, name: string | undefined): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const kind = "kind" in value ? value.kind : "supervised";
  const trainable = "lora" in value ? [] : part.options;
  return {
    kind,
    ...name !== undefined && { name },
    purpose: "",
    ...kind !== "soup" && { trainable },
    ...value,
  };
}

/**
 * Reads a recipe; throws OperatingError that names every wrong field. `name` is the recipe's where
 * it says none, `label` what a message calls it.
 */
export function parseRecipe(
  value: unknown,
  { label = "recipe", name }: { label?: string; name?: string } = {},
): Recipe {
  const result = schema.safeParse(implied(value, name));
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message }) => {
    const field = path.map(String).join(".");
    return { field, text: field === "" ? message : `${field}: ${message}` };
  });
  const { field } = problems[0]!;
  throw new OperatingError(
    "invalid_request",
    `Cannot use ${label}: ${problems.map(({ text }) => text).join("; ")}`,
    field === "" ? {} : { field },
  );
}

/** The same recipe over another number of steps, with warm-up, decay and windows in proportion. */
export function withSteps<R extends TrainingRecipe>(recipe: R, steps: number): R {
  const scaled = (count: number, least = 0) =>
    Math.max(least, Math.round(count * steps / recipe.steps));
  const { schedule } = recipe;
  const changed = {
    ...recipe,
    steps,
    schedule: {
      ...schedule,
      warmupSteps: scaled(schedule.warmupSteps),
      ...schedule.kind === "wsd" && { decaySteps: scaled(schedule.decaySteps) },
    },
  };
  if (recipe.kind !== "supervised" || !recipe.adaptiveRate) return changed;
  const { adaptiveRate } = recipe;
  const windowSteps = scaled(adaptiveRate.windowSteps, 3);
  return { ...changed, adaptiveRate: { ...adaptiveRate, windowSteps } };
}

/** The same recipe on other data. */
export function withSeed<R extends TrainingRecipe>(recipe: R, seed: number): R {
  return { ...recipe, data: { ...recipe.data, seed } };
}

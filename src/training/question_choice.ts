/**
 * Chooses a stage's questions before its first step by how hard they are, in rounds that are kept in
 * the run's folder. What is chosen how is `rollouts/difficulty_filter.ts`.
 */
import { join } from "node:path";
import { countRight } from "./rollouts/answer_groups.ts";
import { type DifficultyState, filterByDifficulty } from "./rollouts/difficulty_filter.ts";
import { MixtureQuestions } from "./rollouts/question_source.ts";
import {
  answerStyle,
  groupOptions,
  questionMaking,
  type ReinforcementOptions,
} from "./reinforcement_setting.ts";
import { mixtureSources } from "./stage_samples.ts";

/** Questions that the difficulty filter examines at most. */
const EXAMINED_MAX = 4096;
const DIFFICULTY_FILE = "difficulty.json";

/**
 * What the recipe's difficulty filter finds with the weights as they are, before the first step;
 * undefined for a recipe without one, or when told to stop. Its rounds are kept in the run's folder,
 * so that a run that was killed meanwhile goes on with the next one.
 */
export async function filterQuestions(
  options: ReinforcementOptions,
  run: {
    readonly folder: string;
    readonly fingerprint: string;
    readonly onRound?: (state: DifficultyState, examinedMax: number) => void;
    readonly isStopping?: () => boolean;
  },
): Promise<DifficultyState | undefined> {
  const { recipe } = options;
  if (recipe.difficultyTries === 0) return undefined;
  const examinedMax = Math.min(recipe.steps * recipe.promptsPerStep, EXAMINED_MAX);
  const path = join(run.folder, DIFFICULTY_FILE);
  const start = await readDifficulty(path, run.fingerprint);
  const making = questionMaking(options);
  const found = await filterByDifficulty({
    questions: new MixtureQuestions(mixtureSources(recipe.data), making, start?.cursor),
    seed: recipe.data.seed,
    style: answerStyle(recipe, recipe.difficultyTries),
    examinedMax,
    roundQuestions: recipe.promptsPerStep,
    countRight: (asked, style) => countRight(asked, { ...groupOptions(options), style }),
    onRound: async (state) => {
      await writeDifficulty(path, run.fingerprint, state);
      run.onRound?.(state, examinedMax);
    },
    ...run.isStopping && { isStopping: run.isStopping },
  }, start);
  return found.examined < examinedMax ? undefined : found;
}

async function readDifficulty(
  path: string,
  fingerprint: string,
): Promise<DifficultyState | undefined> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  const stored = JSON.parse(text) as { fingerprint: string; state: DifficultyState };
  return stored.fingerprint === fingerprint ? stored.state : undefined;
}

async function writeDifficulty(
  path: string,
  fingerprint: string,
  state: DifficultyState,
): Promise<void> {
  await Deno.writeTextFile(`${path}.partial`, JSON.stringify({ fingerprint, state }));
  await Deno.rename(`${path}.partial`, path);
}

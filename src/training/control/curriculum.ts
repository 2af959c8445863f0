/**
 * A curriculum driven by measured accuracy: tasks get harder when the model has learnt the level at
 * hand, never by time. Levels are settings of the makers.
 */
import type { MakerSettings } from "@/data/makers/sample.ts";

/** Settings of one level, over those of the full difficulty. */
export type CurriculumLevel =
  & Partial<
    Pick<
      MakerSettings,
      "lengthMax" | "spread" | "spoiling" | "otherSizes" | "newDesigns" | "wording"
    >
  >
  & {
    /** Typefaces of this level: the first so many. */
    readonly faces?: number;
  };

/** One letter large and clean, then longer, smaller, anywhere, spoilt, in every face. */
export const READING_LEVELS: readonly CurriculumLevel[] = [
  { lengthMax: 1, spread: 0, spoiling: 0, otherSizes: 0, newDesigns: 0, wording: 0, faces: 8 },
  { lengthMax: 2, spread: 0, spoiling: 0, otherSizes: 0, newDesigns: 0, wording: 0.5, faces: 8 },
  { lengthMax: 3, spread: 0.2, spoiling: 0.3, otherSizes: 0, newDesigns: 0.1, wording: 0.5 },
  { lengthMax: 4, spread: 0.5, spoiling: 0.5, otherSizes: 0.05, newDesigns: 0.2 },
  { lengthMax: 6, spread: 0.8, spoiling: 0.8, otherSizes: 0.1 },
  {},
];

/** The makers' settings at a level; levels beyond the last are the full difficulty. */
export function settingsAt(
  full: MakerSettings,
  level: number,
  levels: readonly CurriculumLevel[] = READING_LEVELS,
): MakerSettings {
  const { faces, ...changes } = levels[Math.min(level, levels.length - 1)]!;
  return { ...full, ...changes, faces: full.faces.slice(0, faces ?? full.faces.length) };
}

/** JSON, kept in checkpoints. */
export interface CurriculumState {
  readonly level: number;
  /** Right and wrong answers at this level, the latest last, at most `window`. */
  readonly recent: readonly boolean[];
}

export const CURRICULUM_START: CurriculumState = { level: 0, recent: [] };

export interface CurriculumOptions {
  readonly levels: number;
  /** Accuracy over the latest `window` answers from which the next level begins. */
  readonly threshold: number;
  readonly window: number;
}

export const CURRICULUM_DEFAULTS: Omit<CurriculumOptions, "levels"> = {
  threshold: 0.8,
  window: 256,
};

/** Takes graded answers of the current level. A new level starts with an empty record. */
export function observeAnswers(
  state: CurriculumState,
  answers: readonly boolean[],
  { levels, threshold, window }: CurriculumOptions,
): CurriculumState {
  const recent = [...state.recent, ...answers].slice(-window);
  const accuracy = recent.filter((right) => right).length / window;
  const isLearnt = recent.length === window && accuracy >= threshold;
  if (!isLearnt || state.level >= levels - 1) return { ...state, recent };
  return { level: state.level + 1, recent: [] };
}

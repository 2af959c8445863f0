/** All makers by task name, and the one way to make a sample from (task, seed, index). */
import { OperatingError } from "@/errors.ts";
import { Dice } from "../dice.ts";
import { makeArithmetic, makeTextSum, makeWordProblem } from "./arithmetic_maker.ts";
import { makeCaption, makeCaptionQuestion, makeSceneDialogue } from "./caption_maker.ts";
import {
  makeBarDialogue,
  makeBarReading,
  makeChart,
  makeChartCaption,
  makeChartDialogue,
  makeTable,
  makeTextBars,
} from "./chart_maker.ts";
import { makeDirection, makeGrowth, makeNumberFrames, makeRecolouring } from "./frames_maker.ts";
import { builtInFaces } from "./lettering_scene.ts";
import {
  type Drawn,
  makeDigit,
  makeHandwriting,
  makeNumber,
  makeString,
  makeTwoLines,
  makeWord,
} from "./reading_maker.ts";
import type { MakerSettings, Sample } from "./sample.ts";
import {
  makeColour,
  makeCount,
  makeExists,
  makeMore,
  makePlace,
  makeRelation,
  makeShape,
} from "./scene_maker.ts";
import { makeTalk } from "./talk_maker.ts";
import { trainedWords } from "./words_table.ts";

type Make = (dice: Dice, settings: MakerSettings) => Drawn;

export const makers = {
  word: makeWord,
  string: makeString,
  number: makeNumber,
  digit: makeDigit,
  two_lines: makeTwoLines,
  handwriting: makeHandwriting,
  count: makeCount,
  colour: makeColour,
  shape: makeShape,
  place: makePlace,
  relation: makeRelation,
  exists: makeExists,
  more: makeMore,
  bar_reading: makeBarReading,
  bar_dialogue: makeBarDialogue,
  text_bars: makeTextBars,
  chart: makeChart,
  chart_caption: makeChartCaption,
  table: makeTable,
  caption: makeCaption,
  caption_question: makeCaptionQuestion,
  scene_dialogue: makeSceneDialogue,
  chart_dialogue: makeChartDialogue,
  arithmetic: makeArithmetic,
  word_problem: makeWordProblem,
  text_sum: makeTextSum,
  direction: makeDirection,
  recolouring: makeRecolouring,
  number_frames: makeNumberFrames,
  growth: makeGrowth,
  talk: makeTalk,
} as const satisfies Record<string, Make>;

export type TaskName = keyof typeof makers;

export const taskNames = Object.keys(makers) as TaskName[];

/** Full difficulty, built-in typefaces, the words of training. */
export function defaultSettings(side = 224): MakerSettings {
  return {
    side,
    otherSizes: 0.14,
    faces: builtInFaces(),
    newDesigns: 0.35,
    words: trainedWords,
    lengthMax: 8,
    spread: 1,
    spoiling: 1,
    wording: 1,
  };
}

/** Throws OperatingError for a name that is no task. */
export function parseTaskName(name: string): TaskName {
  if (Object.hasOwn(makers, name)) return name as TaskName;
  throw new OperatingError(
    "invalid_request",
    `Unknown task "${name}", expected one of ${taskNames.join(", ")}`,
  );
}

/**
 * Sample `index` of a task's endless stream under a seed. Depends on its arguments alone: no sample
 * needs those before it, so a stream may be cut, resumed and shared out anywhere.
 */
export function makeSample(
  task: TaskName,
  { seed, index, settings }: { seed: number; index: number; settings: MakerSettings },
): Sample {
  const make: Make = makers[task];
  const drawn = make(Dice.of(task, seed, index), settings);
  return { id: `${task}/${seed}/${index}`, ...drawn };
}

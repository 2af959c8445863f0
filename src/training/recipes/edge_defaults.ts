/** Constants that the edge-size stages share. The report's own numbers stand in each stage's file. */

/** AdamW as in all stages. */
export const EDGE_OPTIMIZER = {
  weightDecay: 0.05,
  betas: [0.9, 0.98] as [number, number],
  clipNorm: 1,
};

/** About 64 samples of one tile a step. */
export const EDGE_PACKING = {
  tokensMax: 1536,
  packsTogether: 4,
  bufferSamples: 96,
  roundsWaitedMax: 4,
};

/** Words, numbers, figures: what pictures say, in the words of questions. */
export const CAPTION_TASKS = { caption: 4, word: 3, string: 1, number: 2 };

export const READING_TASKS = {
  word: 8,
  string: 3,
  number: 4,
  digit: 1,
  handwriting: 2,
  two_lines: 2,
};

export const SCENE_TASKS = {
  count: 4,
  colour: 2,
  shape: 2,
  place: 2,
  relation: 1,
  exists: 1,
  more: 1,
};

export const CHART_TASKS = { bar_reading: 2, bar_dialogue: 2, chart: 2, table: 1 };

export const CLIP_TASKS = { direction: 1, recolouring: 1, number_frames: 1, growth: 1 };

export const REASONING_TASKS = { arithmetic: 4, word_problem: 2 };

/** What makers make: pictures, a conversation about them, and the truth they were drawn from. */
import type { Box, Picture } from "../drawing/canvas.ts";
import type { Face } from "../lettering/face.ts";

/** One question and the answer wanted; `thought` is the chain of thought before it. */
export interface Turn {
  readonly question: string;
  readonly thought?: string;
  readonly answer: string;
}

export const ranks = ["lowest", "between", "highest"] as const;
export type Rank = typeof ranks[number];

/** Something drawn, with its place in pixels of picture `picture`. */
export interface Mark {
  readonly kind: "letter" | "figure" | "category" | "end";
  readonly picture: number;
  readonly box: Box;
  /** The letter, the figure's shape, or a category's value in tenths of the axis. */
  readonly label: string;
  /** Number of the letter in its line from 1, of the figure, or of the category. */
  readonly order: number;
  readonly colour?: string;
  /** Of a category: how its value stands to the others of the chart. */
  readonly rank?: Rank;
}

/** How an answer can be checked without a judge. */
export type AnswerKind = "word" | "number" | "yes_no" | "text";

export interface Truth {
  readonly answerKind: AnswerKind;
  /** Facts of the drawing, as JSON. */
  readonly facts: Readonly<Record<string, unknown>>;
}

export interface Sample {
  /** `maker/seed/index`: names the sample for ever, as long as the makers stay the same. */
  readonly id: string;
  readonly task: string;
  /** One still picture, the frames of a clip in order, or none. */
  readonly pictures: readonly Picture[];
  readonly isClip: boolean;
  readonly turns: readonly Turn[];
  readonly marks: readonly Mark[];
  readonly truth: Truth;
}

/** What a curriculum may change, and what separates training from test data. */
export interface MakerSettings {
  /** Side of the usual square picture in pixels. */
  readonly side: number;
  /** Chance that a picture has another size or shape. */
  readonly otherSizes: number;
  readonly faces: readonly Face[];
  /** Chance that lettering uses a newly drawn design near the built-in ones instead. */
  readonly newDesigns: number;
  readonly words: readonly string[];
  /** Longest text in letters or digits. */
  readonly lengthMax: number;
  /** 0: large and near the middle; 1: any size anywhere. */
  readonly spread: number;
  /** Strength of noise, blur and JPEG losses: 0 none, 1 usual. */
  readonly spoiling: number;
  /** Chance of suffixes and careless spelling in questions. */
  readonly wording: number;
}

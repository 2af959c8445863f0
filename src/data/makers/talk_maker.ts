/** Small talk without a picture. */
import type { Dice } from "../dice.ts";
import { talk, wordings } from "./phrases_table.ts";
import type { Drawn } from "./reading_maker.ts";

export function makeTalk(dice: Dice): Drawn {
  const [asked, answer] = dice.pick(talk);
  return {
    task: "talk",
    pictures: [],
    isClip: false,
    turns: [{ question: dice.pick(wordings(asked)), answer }],
    marks: [],
    truth: { answerKind: "text", facts: {} },
  };
}

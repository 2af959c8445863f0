/**
 * Captions of scenes and lettering, and questions made from captions alone (Caption2QA): the
 * question writer sees only the caption, never the drawing.
 */
import { assert } from "@/assert.ts";
import type { Dice } from "../dice.ts";
import { ask } from "./asking.ts";
import { drawFigures, type ShapeName, shapeNames } from "./figures.ts";
import { drawLettering } from "./lettering_scene.ts";
import type { Drawn } from "./reading_maker.ts";
import type { AnswerKind, MakerSettings, Turn } from "./sample.ts";
import { drawColour, drawShape, pluralOf } from "./scene_maker.ts";

/** `a red circle`, `3 blue stars`, `an orange square and 2 black hearts`. */
function sceneCaption(
  groups: readonly { shape: ShapeName; colour: string; count: number }[],
): string {
  return groups.map(({ shape, colour, count }) => {
    if (count > 1) return `${count} ${colour} ${pluralOf(shape)}`;
    return `${colour === "orange" ? "an" : "a"} ${colour} ${shape}`;
  }).join(" and ");
}

interface Captioned extends Omit<Drawn, "task" | "turns" | "truth"> {
  readonly caption: string;
}

function drawCaptioned(dice: Dice, settings: MakerSettings): Captioned {
  const draw = dice.unit();
  if (draw < 0.35) {
    const isWord = draw < 0.22 && settings.words.length > 0;
    const words = settings.words.filter((word) => word.length <= Math.min(6, settings.lengthMax));
    const text = isWord && words.length > 0 ? dice.pick(words) : String(dice.integer(0, 999));
    const { canvas, marks } = drawLettering([text], { dice, settings });
    const caption = `the ${isWord ? "word" : "number"} ${text}`;
    return { caption, pictures: [canvas], marks, isClip: false };
  }
  const groups = [{ shape: drawShape(dice), colour: drawColour(dice), count: dice.integer(1, 4) }];
  if (dice.chance(0.4)) {
    let shape = drawShape(dice);
    while (shape === groups[0]!.shape) shape = drawShape(dice);
    groups.push({ shape, colour: drawColour(dice), count: dice.integer(1, 3) });
  }
  const wanted = dice.shuffled(
    groups.flatMap(({ shape, colour, count }) =>
      Array.from({ length: count }, () => ({ shape, colour }))
    ),
  );
  const { canvas, marks } = drawFigures(wanted, { dice, settings });
  return { caption: sceneCaption(groups), pictures: [canvas], marks, isClip: false };
}

export function makeCaption(dice: Dice, settings: MakerSettings): Drawn {
  const { caption, ...picture } = drawCaptioned(dice, settings);
  const question = ask("describe", { dice, wording: settings.wording });
  return {
    ...picture,
    task: "caption",
    turns: [{ question, answer: caption }],
    truth: { answerKind: "text", facts: { caption } },
  };
}

export interface CaptionQuestion {
  readonly question: string;
  readonly answer: string;
  readonly answerKind: AnswerKind;
}

interface CaptionGroup {
  readonly count: number;
  readonly colour: string;
  readonly shape: ShapeName;
}

/** Reads a scene caption back; undefined for other captions. */
export function parseCaption(caption: string): CaptionGroup[] | undefined {
  const groups: CaptionGroup[] = [];
  for (const part of caption.split(" and ")) {
    const [, amount, colour, noun] = /^(an?|\d+) (\w+) (\w+)$/.exec(part) ?? [];
    const shape = shapeNames.find((name) => noun === name || noun === pluralOf(name));
    if (amount === undefined || !shape) return undefined;
    groups.push({ count: /^\d/.test(amount) ? Number(amount) : 1, colour: colour!, shape });
  }
  return groups;
}

/** Questions that a caption alone answers, several per caption. */
export function questionsFromCaption(
  caption: string,
  { dice, wording }: { dice: Dice; wording: number },
): CaptionQuestion[] {
  const [, kind, text] = /^the (word|number) (\S+)$/.exec(caption) ?? [];
  if (kind !== undefined) {
    const isWord = kind === "word";
    const question = ask(isWord ? "word" : "number", { dice, wording });
    return [{ question, answer: text!, answerKind: isWord ? "word" : "number" }];
  }
  const groups = parseCaption(caption);
  if (!groups) return [];
  const out: CaptionQuestion[] = [];
  const total = groups.reduce((sum, { count }) => sum + count, 0);
  out.push({
    question: ask("count", { dice, wording, holes: { things: "shapes", numeric: true } }),
    answer: String(total),
    answerKind: "number",
  });
  for (const { shape, colour, count } of groups) {
    const things = pluralOf(shape);
    out.push({
      question: ask("count", { dice, wording, holes: { things, numeric: true } }),
      answer: String(count),
      answerKind: "number",
    }, {
      question: ask("colour", { dice, wording, holes: { one: shape, things } }),
      answer: colour,
      answerKind: "word",
    });
  }
  if (groups.length === 2 && groups[0]!.count !== groups[1]!.count) {
    const [x, y] = groups.map(({ shape }) => pluralOf(shape)) as [string, string];
    out.push({
      question: ask("more", { dice, wording, holes: { x, y } }),
      answer: groups[0]!.count > groups[1]!.count ? x : y,
      answerKind: "word",
    });
  }
  return groups.length === 1 ? out : out.filter(({ question }) => namesAGroup(question, groups));
}

/** With two groups, a question about "it" or "they" would have two answers. */
function namesAGroup(question: string, groups: readonly CaptionGroup[]): boolean {
  const isAboutAll = /shapes/i.test(question);
  return isAboutAll || groups.some(({ shape }) => question.toLowerCase().includes(shape));
}

/** Is there one, of a shape and colour that the caption names or nearly names. */
function existence(groups: readonly CaptionGroup[], dice: Dice, wording: number): Turn {
  const { shape, colour } = dice.pick(groups);
  const asked = dice.weighted([
    [{ shape, colour }, 2],
    [{ shape, colour: drawColour(dice) }, 1],
    [{ shape: drawShape(dice), colour }, 1],
  ]);
  const isThere = groups.some((group) =>
    group.shape === asked.shape && group.colour === asked.colour
  );
  const holes = { x: `${asked.colour} ${asked.shape}` };
  const question = ask("exists", { dice, wording, holes }).replace(" a orange", " an orange");
  return { question, answer: isThere ? "yes" : "no" };
}

/** Several questions about one scene, one after the other: a picture is seen once for all. */
export function makeSceneDialogue(dice: Dice, settings: MakerSettings): Drawn {
  const { wording } = settings;
  for (;;) {
    const { caption, ...picture } = drawCaptioned(dice, settings);
    const groups = parseCaption(caption);
    if (!groups) continue;
    const described = { question: ask("describe", { dice, wording }), answer: caption };
    const turns: Turn[] = [
      described,
      existence(groups, dice, wording),
      ...questionsFromCaption(caption, { dice, wording })
        .map(({ question, answer }) => ({ question, answer })),
    ];
    return {
      ...picture,
      task: "scene_dialogue",
      turns: dice.shuffled(turns).slice(0, 4),
      truth: { answerKind: "text", facts: { caption } },
    };
  }
}

export function makeCaptionQuestion(dice: Dice, settings: MakerSettings): Drawn {
  for (;;) {
    const { caption, ...picture } = drawCaptioned(dice, settings);
    const asked = questionsFromCaption(caption, { dice, wording: settings.wording });
    if (asked.length === 0) continue;
    const { question, answer, answerKind } = dice.pick(asked);
    assert(answer !== "", "a caption's question has an answer");
    return {
      ...picture,
      task: "caption_question",
      turns: [{ question, answer }],
      truth: { answerKind, facts: { caption } },
    };
  }
}

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { Picture } from "../drawing/canvas.ts";
import { colourDistance, type ColourName, namedColours, type Rgb } from "../drawing/colour.ts";
import {
  defaultSettings,
  makeSample,
  parseTaskName,
  type TaskName,
  taskNames,
} from "./maker_registry.ts";
import type { Sample } from "./sample.ts";
import { heldOutWords, trainedWords } from "./words_table.ts";

const settings = defaultSettings(112);
/** Large, clean pictures: what is drawn can be measured in the pixels. */
const clean = { ...settings, spoiling: 0, otherSizes: 0, wording: 0 };

function samplesOf(task: TaskName, count: number, used = settings): Sample[] {
  return Array.from(
    { length: count },
    (_, index) => makeSample(task, { seed: 5, index, settings: used }),
  );
}

function digestOf(sample: Sample): string {
  const hash = createHash("sha256");
  const { pictures, ...rest } = sample;
  hash.update(JSON.stringify(rest));
  for (const { width, height, data } of pictures) hash.update(`${width}x${height}`).update(data);
  return hash.digest("hex").slice(0, 16);
}

for (const task of taskNames) {
  Deno.test(`makeSample() of ${task} is sound and the same in any order`, () => {
    const samples = samplesOf(task, 12);
    for (const { id, pictures, turns, marks, truth, isClip } of samples) {
      assert.ok(turns.length > 0, id);
      for (const { question, answer, thought } of turns) {
        assert.ok(question.length > 1 && !/[{}]|undefined/.test(question), `${id}: ${question}`);
        assert.ok(answer !== "" && answer === answer.trim() && !/undefined|NaN/.test(answer), id);
        assert.ok(!/undefined|NaN/.test(thought ?? ""), id);
      }
      if (truth.answerKind === "number") assert.match(turns[0]!.answer, /^\d+$/, id);
      assert.equal(isClip, pictures.length > 1, id);
      for (const { width, height, data } of pictures) {
        assert.equal(data.length, width * height * 3);
        assert.ok(Math.max(width, height) <= 224, `${id}: ${width}x${height}`);
      }
      for (const { picture, box } of marks) {
        const { width, height } = pictures[picture]!;
        assert.ok(box.left < width && box.right > 0 && box.top < height && box.bottom > 0, id);
      }
    }
    const backwards = [...samples.keys()].reverse().map((index) =>
      digestOf(makeSample(task, { seed: 5, index, settings }))
    );
    assert.deepEqual(backwards.reverse(), samples.map(digestOf));
    const others = samples.map((_, index) =>
      digestOf(makeSample(task, { seed: 6, index, settings }))
    );
    assert.notDeepEqual(others, samples.map(digestOf));
  });
}

/** Groups of touching pixels unlike the background. */
function components({ width, height, data }: Picture): number {
  const isInk = (at: number) => [0, 1, 2].some((c) => Math.abs(data[at * 3 + c]! - data[c]!) > 24);
  const seen = new Uint8Array(width * height);
  let count = 0;
  for (let start = 0; start < seen.length; start++) {
    if (seen[start] || !isInk(start)) continue;
    count++;
    const stack = [start];
    seen[start] = 1;
    while (stack.length > 0) {
      const at = stack.pop()!;
      for (const next of [at - 1, at + 1, at - width, at + width]) {
        if (next < 0 || next >= seen.length || seen[next] || !isInk(next)) continue;
        seen[next] = 1;
        stack.push(next);
      }
    }
  }
  return count;
}

Deno.test("makeCount() draws as many separate figures as it says", () => {
  for (const { id, pictures, truth } of samplesOf("count", 60, { ...clean, side: 224 })) {
    const { figures } = truth.facts as { figures: unknown[] };
    assert.equal(components(pictures[0]!), figures.length, id);
  }
});

Deno.test("makeColour() paints the colour it names", () => {
  for (const { id, pictures, turns, truth } of samplesOf("colour", 60, clean)) {
    const { figures } = truth.facts as { figures: { shape: string; x: number; y: number }[] };
    const { shape, x, y } = figures[0]!;
    if (shape === "triangle") continue;
    const { width, data } = pictures[0]!;
    const at = (y * width + x) * 3;
    const pixel = [data[at]!, data[at + 1]!, data[at + 2]!] as const;
    if (colourDistance(pixel, [data[0]!, data[1]!, data[2]!]) < 30) continue; // outlined
    const near = namedColours[turns[0]!.answer as ColourName].some((named: Rgb) =>
      colourDistance(named, pixel) < 45
    );
    assert.ok(near, `${id}: ${pixel} is not ${turns[0]!.answer}`);
  }
});

Deno.test("makeArithmetic() thinks in true steps that end at the answer", () => {
  for (const { id, turns } of samplesOf("arithmetic", 80)) {
    const steps = [...turns[0]!.thought!.matchAll(/(\d+)([+×-])(\d+)=(\d+)/g)];
    assert.ok(steps.length > 0, id);
    for (const [, a, operator, b, result] of steps) {
      const [x, y] = [Number(a), Number(b)];
      const value = operator === "+" ? x + y : operator === "-" ? x - y : x * y;
      assert.equal(value, Number(result), id);
    }
    assert.equal(steps.at(-1)![4], turns[0]!.answer, id);
  }
});

Deno.test("makeWord() never draws a held-out word", () => {
  const held = new Set(heldOutWords);
  assert.ok(heldOutWords.length > 100 && trainedWords.length > 1500);
  assert.ok(trainedWords.every((word) => !held.has(word)));
  const drawn = samplesOf("word", 150, { ...clean, side: 40 });
  // Invented words may equal a real one by chance, which the model card says.
  const hits = drawn.filter(({ turns }) => held.has(turns[0]!.answer.toLowerCase()));
  assert.ok(hits.length <= 1, hits.map(({ turns }) => turns[0]!.answer).join());
});

Deno.test("makeBarDialogue() asks for every bar, the ends and a difference, each once", () => {
  for (const { id, turns, truth } of samplesOf("bar_dialogue", 20)) {
    const { spec } = truth.facts as { spec: { categories: string[]; values: number[] } };
    const named = (question: string) => namedIn(question, spec);
    const of = (count: number) => turns.filter(({ question }) => named(question).length === count);
    assert.equal(turns.length, spec.categories.length + 3, id);
    const asked = of(1).map(({ question }) => named(question)[0]!);
    assert.deepEqual(asked.sort(), [...spec.categories].sort(), id);
    for (const { question, answer } of of(1)) {
      assert.equal(answer, String(valueOf(named(question)[0]!, spec)), id);
    }
    const ends = [Math.max, Math.min].map((end) =>
      spec.categories[spec.values.indexOf(end(...spec.values))]!
    );
    assert.deepEqual(of(0).map(({ answer }) => answer).sort(), ends.sort(), id);
    const [{ question, answer }] = of(2) as [(typeof turns)[number]];
    const [x, y] = named(question).map((name) => valueOf(name, spec));
    assert.equal(answer, String(Math.abs(x! - y!)), id);
  }
});

Deno.test("makeBarReading() asks for what the bars show", () => {
  for (const { id, turns, truth, marks } of samplesOf("bar_reading", 60)) {
    const { spec, question } = truth.facts as {
      spec: { categories: string[]; values: number[]; axisMax: number };
      question: string;
    };
    const slots = marks.filter(({ kind }) => kind === "category");
    const levels = slots.map(({ label }) => +label);
    for (const end of ["highest", "lowest"] as const) {
      const best = end === "highest" ? Math.max(...levels) : Math.min(...levels);
      assert.equal(slots.findIndex(({ rank }) => rank === end), levels.indexOf(best), id);
    }
    assert.deepEqual(levels.map((level) => level * spec.axisMax / 10), spec.values, id);
    const named = namedIn(turns[0]!.question, spec);
    const values = named.map((name) => valueOf(name, spec));
    const expected = {
      value: () => String(values[0]),
      highest: () => spec.categories[spec.values.indexOf(Math.max(...spec.values))],
      lowest: () => spec.categories[spec.values.indexOf(Math.min(...spec.values))],
      difference: () => String(Math.abs(values[0]! - values[1]!)),
    }[question as "value"]();
    assert.equal(turns[0]!.answer, expected, id);
    assertBarFound(turns[0]!, { spec, question, named, id });
    const ends = marks.filter(({ kind }) => kind === "end");
    assert.deepEqual(ends.map(({ label }) => +label), levels, id);
  }
});

Deno.test("makeTextBars() lists the bars, and thinks as for a picture of them", () => {
  for (const { id, turns: [turn], truth, pictures } of samplesOf("text_bars", 60)) {
    const { spec, question } = truth.facts as {
      spec: { categories: string[]; values: number[] };
      question: string;
    };
    assert.equal(pictures.length, 0, id);
    const [bars, asked] = turn!.question.split(/\. (.*)/s);
    assert.equal(bars, barsOf(spec), id);
    const named = namedIn(asked!, spec);
    assertBarFound(turn!, { spec, question, named, id });
  }
});

interface Bars {
  readonly categories: string[];
  readonly values: number[];
}

/** The bars that a question names, in the chart's order. */
function namedIn(question: string, { categories }: Bars): string[] {
  return categories.filter((name) => question.split(/\W/).includes(name));
}

function valueOf(name: string, { categories, values }: Bars): number {
  return values[categories.indexOf(name)]!;
}

function barsOf({ categories, values }: Bars): string {
  const marks = new Map([[Math.min(...values), "<"], [Math.max(...values), ">"]]);
  return categories.map((name, i) => `${name} ${marks.get(values[i]!) ?? ""}${values[i]}`)
    .join(", ");
}

/**
 * The thought starts with what is asked for and all bars, or those up to the extreme; it ends with
 * that bar, or the difference.
 */
function assertBarFound(
  { thought, answer }: { thought?: string; answer: string },
  { spec, question, named, id }: { spec: Bars; question: string; named: string[]; id: string },
): void {
  const [wanted, rest] = thought!.split("? ") as [string, string];
  if (question === "highest" || question === "lowest") {
    assert.equal(wanted, question, id);
    const bars = barsOf(spec).split(", ");
    const read = bars.slice(0, spec.categories.indexOf(answer) + 1);
    assert.equal(rest, `${read.join(", ")}. ${answer}.`, id);
    return;
  }
  assert.ok(rest.startsWith(`${barsOf(spec)}. `), id);
  const found = rest.slice(barsOf(spec).length + 2);
  if (question === "value") {
    assert.equal(wanted, named[0], id);
    assert.equal(found, `${wanted} ${valueOf(wanted, spec)}.`, id);
    return;
  }
  const [x, y] = wanted.split("-") as [string, string];
  assert.deepEqual([x, y].sort(), [...named].sort(), id);
  const [larger, smaller] = [valueOf(x, spec), valueOf(y, spec)];
  const pair = `${x} ${larger}, ${y} ${smaller}. ${larger}-${smaller}. `;
  assert.ok(found.startsWith(pair) && found.endsWith(`=${answer}.`), `${id}: ${found}`);
  assert.equal(answer, String(larger - smaller), id);
}

Deno.test("makeChartCaption() says what each bar stands for, in order", () => {
  let bars = 0;
  for (const { id, turns, truth } of samplesOf("chart_caption", 60)) {
    const { spec } = truth.facts as {
      spec: { kind: string; categories: string[]; values: number[] };
    };
    assert.ok(turns[0]!.answer.includes(` ${spec.kind} chart`), id);
    if (spec.kind !== "bar") continue;
    bars += 1;
    const said = turns[0]!.answer.split(": ")[1]!.split(", ").map((part) => part.split(" "));
    const expected = spec.categories.map((name, i) => [name, String(spec.values[i])]);
    assert.deepEqual(said, expected, id);
  }
  assert.ok(bars >= 20);
});

Deno.test("parseTaskName() names the tasks there are when it knows none such", () => {
  assert.equal(parseTaskName("word"), "word");
  assert.throws(() => parseTaskName("toString"), /Unknown task "toString", expected one of word,/);
});

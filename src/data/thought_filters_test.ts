import assert from "node:assert/strict";
import { Dice } from "./dice.ts";
import { defaultSettings, makeSample } from "./makers/maker_registry.ts";
import { balanceLengths, dropDoubles, judgeThought } from "./thought_filters.ts";
import { readChoices, toFreeResponse } from "./verification/free_response.ts";

Deno.test("judgeThought() keeps what the makers think and drops the broken kinds", () => {
  const settings = defaultSettings(32);
  for (let index = 0; index < 40; index++) {
    const { thought, answer } = makeSample("arithmetic", { seed: 1, index, settings }).turns[0]!;
    assert.equal(judgeThought({ thought: thought!, answer }), "keep", thought);
  }
  const judge = (thought: string, answer = "5") => judgeThought({ thought, answer });
  assert.equal(judge(""), "bad_format");
  assert.equal(judge("so <think> again and again"), "bad_format");
  assert.equal(judge("I get \\boxed{6} here"), "bad_format");
  assert.equal(judge("five"), "too_short");
  assert.equal(judge("a b c ".repeat(30)), "redundant");
  assert.equal(judge("the red circle", "the red circle"), "redundant");
  const long = Array.from({ length: 500 }, (_, i) => `word${i}`).join(" ");
  assert.equal(judge(long), "too_long");
});

Deno.test("dropDoubles() compares picture and question", () => {
  const sample = (picture: string, question: string) => ({ picture, question });
  const all = [sample("a", "How many?"), sample("a", "how  many?"), sample("b", "How many?")];
  assert.deepEqual(dropDoubles(all), [all[0], all[2]]);
});

Deno.test("balanceLengths() caps every class of lengths and keeps order", () => {
  const lengths = [
    ...new Array(80).fill(10),
    ...new Array(10).fill(50),
    ...new Array(10).fill(200),
  ];
  const options = { lengthOf: (n: number) => n, share: 0.2, dice: new Dice(1) };
  const kept = balanceLengths(lengths, options);
  assert.equal(kept.filter((n) => n === 10).length, 20);
  assert.equal(kept.length, 40);
  assert.deepEqual(kept, [...kept].sort((a, b) => a - b));
});

Deno.test("toFreeResponse() frees numbers and formulas from their options", () => {
  const lines = "What is 2+3?\nA. 4\nB. 5\nC. 6";
  assert.deepEqual(toFreeResponse(lines, "B"), { question: "What is 2+3?", answer: "5" });
  const inline = "Find x. Choices: (A) $\\frac{1}{2}$ (B) $\\sqrt{3}$";
  assert.deepEqual(toFreeResponse(inline, "b"), { question: "Find x.", answer: "$\\sqrt{3}$" });
  assert.deepEqual(readChoices(inline).choices.length, 2);
});

Deno.test("toFreeResponse() leaves alone what needs its options", () => {
  const asked = (stem: string, ...options: string[]) =>
    toFreeResponse(`${stem} ${options.map((o, i) => `(${"ABCD"[i]}) ${o}`).join(" ")}`, "A");
  assert.equal(asked("Which of these is prime?", "5", "6"), undefined);
  assert.equal(asked("What is x?", "5", "none of the above"), undefined);
  assert.equal(asked("What is it?", "a red cat", "a dog"), undefined);
  assert.equal(toFreeResponse("What is 2+3?", "A"), undefined);
  assert.equal(toFreeResponse("What is 2+3? (A) 4 (B) 5", "C"), undefined);
});

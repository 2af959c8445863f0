import assert from "node:assert/strict";
import { defaultSettings, makeSample } from "@/data/makers/maker_registry.ts";
import type { Mark, Rank } from "@/data/makers/sample.ts";
import { cueAnswers, type CueKind, cueKinds, cueNames, cueWeights } from "./cues.ts";

const view = { left: 0, top: 0, width: 56, height: 56, side: 4 };

/** One kind's answers as rows of the tile. */
function rowsOf(answers: Uint8Array, kind: CueKind, side = 4): number[][] {
  const at = cueNames.indexOf(kind) * side * side;
  return Array.from(
    { length: side },
    (_, row) => [...answers.subarray(at + row * side, at + (row + 1) * side)],
  );
}

const letter = (label: string, order: number, left: number, right: number): Mark => ({
  kind: "letter",
  picture: 0,
  box: { left, right, top: 14, bottom: 28 },
  label,
  order,
});

Deno.test("cueAnswers() names glyph and place under halves of patches", () => {
  // "a" covers the second patch and the left half of the third, "b" the rest of it.
  const answers = cueAnswers([letter("a", 1, 14, 35), letter("b", 2, 35, 42)], view);
  const empty = [0, 0, 0, 0];
  assert.deepEqual(rowsOf(answers, "left"), [empty, [0, 1, 1, 0], empty, empty]);
  assert.deepEqual(rowsOf(answers, "right"), [empty, [0, 1, 2, 0], empty, empty]);
  assert.deepEqual(rowsOf(answers, "order"), [empty, [0, 1, 2, 0], empty, empty]);
});

Deno.test("cueAnswers() names figures, and sees a tile of a picture as its own", () => {
  const mark: Mark = {
    kind: "figure",
    picture: 0,
    box: { left: 56, right: 84, top: 0, bottom: 28 },
    label: "circle",
    order: 1,
    colour: "blue",
  };
  assert.ok(cueAnswers([mark], view).every((answer) => answer === 0));
  const answers = cueAnswers([mark], { ...view, left: 56 });
  const empty = [0, 0, 0, 0];
  assert.deepEqual(rowsOf(answers, "cover"), [[1, 1, 0, 0], [1, 1, 0, 0], empty, empty]);
  assert.deepEqual(rowsOf(answers, "centre"), [empty, [0, 1, 0, 0], empty, empty]);
  assert.deepEqual(rowsOf(answers, "colour"), [empty, [0, 3, 0, 0], empty, empty]);
});

Deno.test("cueAnswers() names category, level and rank in a slot of a chart", () => {
  const slot = (
    order: number,
    { level, rank }: { level: number; rank: Rank },
    left: number,
    right: number,
  ): Mark => ({
    rank,
    kind: "category",
    picture: 0,
    box: { left, right, top: 14, bottom: 56 },
    label: String(level),
    order,
  });
  const [low, high] = [{ level: 0, rank: "lowest" }, { level: 10, rank: "highest" }] as const;
  const answers = cueAnswers([slot(1, low, 14, 28), slot(2, high, 28, 56)], view);
  const empty = [0, 0, 0, 0];
  const [categories, levels] = [[0, 1, 2, 2], [0, 1, 11, 11]];
  assert.deepEqual(rowsOf(answers, "category"), [empty, categories, categories, categories]);
  assert.deepEqual(rowsOf(answers, "level"), [empty, levels, levels, levels]);
  const ranked = [0, 1, 3, 3];
  assert.deepEqual(rowsOf(answers, "rank"), [empty, ranked, ranked, ranked]);
});

Deno.test("cueAnswers() names the level where a bar ends, upright or lying", () => {
  const end = (level: number, box: Mark["box"]): Mark => ({
    kind: "end",
    picture: 0,
    box,
    label: String(level),
    order: 1,
  });
  const upright = end(3, { left: 16, right: 40, top: 15, bottom: 15 });
  const lying = end(10, { left: 50, right: 50, top: 44, bottom: 54 });
  const answers = cueAnswers([upright, lying], view);
  const empty = [0, 0, 0, 0];
  assert.deepEqual(rowsOf(answers, "end"), [empty, [0, 4, 4, 0], empty, [0, 0, 0, 11]]);
});

Deno.test("cueAnswers() of every maker's marks stay among the answers of their kind", () => {
  const settings = defaultSettings(224);
  for (const task of ["word", "two_lines", "count", "chart", "table", "number_frames"] as const) {
    const { marks, pictures } = makeSample(task, { seed: 3, index: 1, settings });
    assert.ok(marks.length > 0, task);
    const { width, height } = pictures[0]!;
    const answers = cueAnswers(marks, { left: 0, top: 0, width, height, side: 16 });
    for (const kind of cueNames) {
      const most = Math.max(...rowsOf(answers, kind, 16).flat());
      assert.ok(most < cueKinds[kind], `${task}: ${kind} ${most}`);
    }
    assert.ok(answers.some((answer) => answer > 0), task);
  }
});

Deno.test("cueWeights() give full and empty patches the same say", () => {
  const weights = cueWeights(Uint8Array.of(0, 0, 0, 5));
  assert.deepEqual([...weights], [0.25, 0.25, 0.25, 0.5]);
});

import assert from "node:assert/strict";
import fc from "fast-check";
import { ReasoningSplitter } from "./reasoning.ts";

function split(chunks: readonly string[]) {
  const splitter = new ReasoningSplitter();
  let reasoning = "";
  let content = "";
  for (const part of [...chunks.map((chunk) => splitter.push(chunk)), splitter.flush()]) {
    reasoning += part.reasoning;
    content += part.content;
  }
  return { reasoning, content };
}

const CASES: readonly [text: string, reasoning: string, content: string][] = [
  ["plain answer", "", "plain answer"],
  ["", "", ""],
  ["  leading space stays", "", "  leading space stays"],
  ["<think>\nhm\n</think>\n\n\\boxed{4}", "hm", "\\boxed{4}"],
  ["\n<think>a b\n\nc</think>d", "a b\n\nc", "d"],
  ["<think></think>d", "", "d"],
  ["<think> \n </think> d ", "", "d "],
  ["<think>cut off", "cut off", ""],
  ["<think>cut off in tag </thi", "cut off in tag </thi", ""],
  ["<think>1 </ 2 </thinker> 3</think>4", "1 </ 2 </thinker> 3", "4"],
  ["<think>a</think>b<think>c</think>", "a", "b<think>c</think>"],
  ["say <think>no</think>", "", "say <think>no</think>"],
  ["<thin ice", "", "<thin ice"],
  ["<thi", "", "<thi"],
  ["<think>trailing \n", "trailing", ""],
];

Deno.test("ReasoningSplitter splits whole texts", () => {
  for (const [text, reasoning, content] of CASES) {
    assert.deepEqual(split([text]), { reasoning, content }, JSON.stringify(text));
  }
});

Deno.test("ReasoningSplitter gives the same for any chunks", () => {
  for (const [text, reasoning, content] of CASES) {
    assert.deepEqual(split([...text]), { reasoning, content }, JSON.stringify(text));
  }
  const fragment = fc.constantFrom("<think>", "</think>", "<", "/", "think", ">", " ", "\n", "a");
  fc.assert(fc.property(fc.array(fragment, { maxLength: 12 }), (chunks) => {
    assert.deepEqual(split(chunks), split([chunks.join("")]));
  }));
});

Deno.test("ReasoningSplitter holds back no more than it must", () => {
  const splitter = new ReasoningSplitter();
  assert.deepEqual(splitter.push("<think>one two"), { reasoning: "one two", content: "" });
  assert.deepEqual(splitter.push(" three <"), { reasoning: " three", content: "" });
  assert.deepEqual(splitter.push("b"), { reasoning: " <b", content: "" });
  assert.deepEqual(splitter.push("</think>x"), { reasoning: "", content: "x" });
  assert.equal(splitter.state, "content");
});

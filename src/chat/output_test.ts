import assert from "node:assert/strict";
import { loadTokenizer } from "@/tokenizer/tokenizer_folder.ts";
import { ChoiceOutput, type OutputDelta, type OutputOptions } from "./output.ts";

const folder = new URL("../../tests/fixtures/model/dense", import.meta.url).pathname;
const tokenizer = await loadTokenizer(folder);
const endId = tokenizer.tokenId("<|im_end|>")!;

function newOutput(options: Partial<OutputOptions> = {}): ChoiceOutput {
  return new ChoiceOutput({
    tokenizer,
    stops: [],
    splitReasoning: true,
    skipSpecialTokens: true,
    endTokenIds: new Set([endId]),
    ...options,
  });
}

function push(output: ChoiceOutput, ids: readonly number[]): OutputDelta[] {
  const deltas: OutputDelta[] = [];
  for (const id of ids) {
    if (output.matchedStop !== undefined) break;
    deltas.push(output.push({ id, logprob: { id, logprob: -1 }, top: [] }));
  }
  return deltas;
}

function contentOf(deltas: readonly OutputDelta[]): string {
  return deltas.map((delta) => delta.content).join("");
}

/** Content and texts of the visible tokens, which must agree. */
function answer(text: string, stops: readonly string[]): { content: string; shown: string } {
  const output = newOutput({ stops });
  const deltas = push(output, [...tokenizer.encode(text), endId]);
  deltas.push(output.finish("stop"));
  const entries = deltas.flatMap((delta) => delta.logprobs);
  return { content: contentOf(deltas), shown: tokenizer.decode(entries.map(({ id }) => id)) };
}

Deno.test("ChoiceOutput hides the end token that ends the answer and shows one that does not", () => {
  const ids = [...tokenizer.encode("a b"), endId];
  const ended = newOutput({ skipSpecialTokens: false });
  const deltas = [...push(ended, ids), ended.finish("stop")];
  assert.equal(contentOf(deltas), "a b");
  assert.deepEqual(deltas.flatMap((delta) => delta.tokenIds), ids);
  assert.equal(ended.tokenCount, ids.length);

  const passed = newOutput({ skipSpecialTokens: false });
  const more = [...push(passed, [...ids, ...tokenizer.encode("c")]), passed.finish("length")];
  assert.equal(contentOf(more), "a b<|im_end|>c");

  const last = newOutput({ skipSpecialTokens: false });
  assert.equal(contentOf([...push(last, ids), last.finish("length")]), "a b<|im_end|>");
});

Deno.test("ChoiceOutput releases log-probabilities with their text and drops a stop string's", () => {
  assert.deepEqual(answer("one two three", []), {
    content: "one two three",
    shown: "one two three",
  });
  const { content, shown } = answer("one two three", [" two"]);
  assert.equal(content, "one");
  assert.equal(shown, "one");
  assert.equal(answer("one two", ["two three"]).content, "one two", "no stop: all comes out");
});

Deno.test("ChoiceOutput holds only text that may become a stop string", () => {
  const output = newOutput({ stops: ["abc"] });
  const ids = [..."xabx"].flatMap((text) => tokenizer.encode(text));
  const contents = push(output, ids).map((delta) => delta.content);
  assert.deepEqual(contents, ["x", "", "", "abx"]);
});

Deno.test("ChoiceOutput does not search the thought for stop strings", () => {
  const output = newOutput({ stops: ["\n"] });
  const text = "<think>a\nb</think>c\nd";
  const deltas = push(output, tokenizer.encode(text));
  assert.equal(deltas.map((delta) => delta.reasoning).join(""), "a\nb");
  assert.equal(contentOf(deltas), "c");
  assert.equal(output.matchedStop, "\n");
});

Deno.test("ChoiceOutput counts the thought's tokens with its tags", () => {
  const thought = tokenizer.encode("<think>a b</think>");
  const output = newOutput();
  push(output, [...thought, ...tokenizer.encode("c d e")]);
  assert.equal(output.reasoningTokenCount, thought.length);
  const open = newOutput();
  push(open, thought.slice(0, -1));
  assert.equal(open.reasoningTokenCount, thought.length - 1);
  assert.ok(open.isThinking);
  const spelled = newOutput();
  const pieces = [..."<think>a</think>bc"].flatMap((text) => tokenizer.encode(text));
  push(spelled, pieces);
  assert.equal(spelled.reasoningTokenCount, "<think>a</think>".length);
});

Deno.test("ChoiceOutput shows an unfinished character at the end as U+FFFD", () => {
  const [half] = tokenizer.encode("é");
  const output = newOutput();
  const deltas = [...push(output, [half!]), output.finish("length")];
  assert.equal(contentOf(deltas), "\ufffd");
  assert.equal(deltas.flatMap((delta) => delta.logprobs).length, 1);
});

import assert from "node:assert/strict";
import { findPromptTokens } from "@/chat/served_model.ts";
import { THINKING_INSTRUCTION } from "@/chat/template.ts";
import { Canvas } from "@/data/drawing/canvas.ts";
import type { Sample } from "@/data/makers/sample.ts";
import { Tokenizer } from "@/tokenizer/tokenizer.ts";
import { ConversationEncoder } from "./conversation_encoder.ts";

const folder = new URL("../../models/nano/", import.meta.url);
const tokenizer = await Tokenizer.load((name) =>
  Deno.readTextFile(new URL(name, folder)).catch(() => undefined)
);
const promptTokens = findPromptTokens(tokenizer);
const encoder = new ConversationEncoder({
  tokenizer,
  promptTokens,
  grammar: { template: "univl-chat", systemText: "You are Nano." },
  tokensPerTile: 4,
  tiling: { tileSize: 28, maxTiles: 2, thumbnail: true, applyOrientation: false },
});

function sample(pictures: readonly Canvas[], isClip = false): Sample {
  return {
    id: "x/0/0",
    task: "x",
    pictures,
    isClip,
    turns: [
      { question: "What is the word?", thought: "I see it.", answer: "cat" },
      { question: "How many letters are there?", answer: "3" },
    ],
    marks: [],
    truth: { answerKind: "word", facts: {} },
  };
}

const decode = (ids: Iterable<number>) => tokenizer.decode([...ids], { skipSpecialTokens: false });

/** What the loss falls on, one text per run. */
function learnt({ ids, weights }: { ids: Int32Array; weights: Float32Array }): string[] {
  const runs: number[][] = [];
  for (let i = 0; i < ids.length; i++) {
    if (weights[i] === 0) continue;
    if (i === 0 || weights[i - 1] === 0) runs.push([]);
    runs.at(-1)!.push(ids[i]!);
  }
  return runs.map(decode);
}

Deno.test("encode() puts the loss on answers and their ends, in the grammar of serving", () => {
  const encoded = encoder.encode(sample([new Canvas(28, 28, [1, 2, 3])]), { thinking: false });
  assert.deepEqual(learnt(encoded), ["cat<|im_end|>", "3<|im_end|>"]);
  const context = "<IMG_CONTEXT>".repeat(4);
  assert.equal(
    decode(encoded.ids),
    "<|im_start|>system\nYou are Nano.<|im_end|><|im_start|>user\n<img>" + context +
      "</img>\nWhat is the word?<|im_end|><|im_start|>assistant\ncat<|im_end|>" +
      "<|im_start|>user\nHow many letters are there?<|im_end|><|im_start|>assistant\n3<|im_end|>",
  );
  assert.equal(encoded.visualTokens, 4);
  assert.equal(encoded.tiles.length, 1);
  assert.deepEqual([...encoded.tiles[0]!.subarray(0, 3)], [1, 2, 3]);
});

Deno.test("encode() of a thinking style asks for the thought and learns it", () => {
  const style = { thinking: true, thoughtWeight: 0.5 };
  const encoded = encoder.encode(sample([]), style);
  assert.equal(learnt(encoded)[0], "<think>I see it.</think>\\boxed{cat}<|im_end|>");
  assert.ok(decode(encoded.ids).includes(THINKING_INSTRUCTION));
  const open = encoded.ids.indexOf(promptTokens.thinkStart!, encoded.weights.indexOf(0.5));
  assert.equal(encoded.weights[open], 0.5);
  assert.equal(encoded.weights[encoded.ids.lastIndexOf(promptTokens.turnEnd)], 1);
});

Deno.test("encode() cuts wide pictures into tiles and keeps frames whole", () => {
  const wide = new Canvas(56, 28, [255, 255, 255]);
  wide.fillBox({ left: 28, top: 0, right: 56, bottom: 28 }, [0, 0, 0]);
  const still = encoder.encode(sample([wide]), { thinking: false });
  assert.equal(still.tiles.length, 3);
  assert.deepEqual(still.tiles.map((tile) => tile[14 * 28 * 3 + 60]), [255, 0, 0]);
  assert.deepEqual(still.spans.map(({ count }) => count), [12]);
  const clip = encoder.encode(sample([wide, wide], true), { thinking: false });
  assert.equal(clip.tiles.length, 2);
  assert.deepEqual(clip.spans.map(({ count }) => count), [4, 4]);
  assert.match(decode(clip.ids), /Frame-1: <img>.*Frame-2: <img>/s);
});

Deno.test("encodeQuestion() is the beginning of what is learnt", () => {
  const one = sample([new Canvas(28, 28, [9, 9, 9])]);
  const { ids } = encoder.encodeQuestion(one, { thinking: true });
  const whole = encoder.encode(one, { thinking: true });
  assert.deepEqual(ids, [...whole.ids.subarray(0, ids.length)]);
  assert.ok(whole.weights.subarray(0, ids.length).every((weight) => weight === 0));
});

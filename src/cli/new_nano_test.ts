import assert from "node:assert/strict";
import { impliedTensors } from "@/model/parameters.ts";
import { Tokenizer } from "@/tokenizer/tokenizer.ts";
import { THINKING_INSTRUCTION } from "@/chat/template.ts";
import { newNano } from "./new_nano.ts";

Deno.test("newNano() is a whole model whose tokenizer knows how the makers speak", async () => {
  const { config, files, tensors } = await newNano(112);
  assert.deepEqual([...tensors.keys()].sort(), [...(await impliedTensors(config)).keys()].sort());
  const count = tensors.values().reduce((sum, { values }) => sum + values.length, 0);
  assert.ok(count > 2.5e6 && count < 3e6, `${count} parameters`);
  const tokenizer = Tokenizer.fromFiles(Object.fromEntries(files));
  assert.equal(tokenizer.size, 700);
  assert.equal(tokenizer.encode("What word is written in the image?").length, 8);
  assert.equal(tokenizer.encode("word").length, 4);
  assert.ok(tokenizer.encode(THINKING_INSTRUCTION).length < 60);
  assert.equal(JSON.parse(files.get("config.json")!).force_image_size, 112);
});

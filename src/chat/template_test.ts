import assert from "node:assert/strict";
import { type Message, NO_THINKING } from "./message.ts";
import { readGrammar, RELEASED_SYSTEM_TEXT, renderChat } from "./template.ts";

function renderText(messages: readonly Message[], tileCounts: readonly number[] = []): string {
  const pieces = renderChat(messages, {
    grammar: { template: "univl-chat", systemText: "S" },
    thinking: NO_THINKING,
    tokenCounts: tileCounts.map((tiles) => [tiles]),
  });
  return pieces.map((piece) =>
    piece.type === "text"
      ? piece.text
      : piece.type === "picture"
      ? `{${piece.tokens}}`
      : { turnStart: "[", turnEnd: "]" }[piece.token]
  ).join("");
}

const say = (role: Message["role"], text: string): Message => ({
  role,
  parts: [{ type: "text", text }],
});

Deno.test("readGrammar() finds the default system text in the checkpoint's template", () => {
  const template = (text: string) => `{{'<|im_start|>system\\n${text}<|im_end|>'}}`;
  assert.equal(readGrammar(template("Be short.")).systemText, "Be short.");
  assert.equal(readGrammar(template("It\\'s\\nnano")).systemText, "It's\nnano");
  assert.equal(readGrammar(template("")).systemText, "");
  assert.equal(readGrammar("<|im_start|>system\nReal line<|im_end|>").systemText, "Real line");
});

Deno.test("readGrammar() skips expressions and falls back to the released text", () => {
  const expression = "{{'<|im_start|>system\\n' + messages[0].content + '<|im_end|>'}}";
  assert.equal(readGrammar(expression).systemText, RELEASED_SYSTEM_TEXT);
  const both = `${expression}{{'<|im_start|>system\\nAfter it.<|im_end|>'}}`;
  assert.equal(readGrammar(both).systemText, "After it.");
  assert.equal(readGrammar(undefined).systemText, RELEASED_SYSTEM_TEXT);
  assert.equal(readGrammar("{{ nothing }}").systemText, RELEASED_SYSTEM_TEXT);
});

Deno.test("renderChat() adds the default system turn only when the first turn is another's", () => {
  assert.equal(renderText([say("user", "hi")]), "[system\nS][user\nhi][assistant\n");
  assert.equal(
    renderText([say("system", ""), say("user", "hi")]),
    "[system\n][user\nhi][assistant\n",
  );
  assert.equal(
    renderText([say("user", "a"), say("system", "b"), say("user", "c")]),
    "[system\nS][user\na][system\nb][user\nc][assistant\n",
  );
});

Deno.test("renderChat() takes tile counts in prompt order and ends each picture's line", () => {
  const image = { type: "image", url: "data:,", detail: "auto", field: "f" } as const;
  const messages: Message[] = [
    { role: "user", parts: [image, { type: "text", text: "a" }] },
    say("assistant", "b"),
    { role: "user", parts: [{ type: "text", text: "c " }, image, image] },
  ];
  assert.equal(
    renderText(messages, [1, 7, 3]),
    "[system\nS][user\n{1}\na][assistant\nb][user\nc {7}\n{3}\n][assistant\n",
  );
});

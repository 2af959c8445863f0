/** Bodies and shell commands of requests. */
import assert from "node:assert/strict";
import {
  chatBody,
  chatMessages,
  curlCommand,
  defaultSettings,
  shortenDataUrls,
} from "./chat_request.ts";
import type { Picture } from "./picture.ts";

const picture: Picture = {
  id: 1,
  name: "a.png",
  url: `data:image/png;base64,${"A".repeat(400)}`,
  widthPixels: 2,
  heightPixels: 2,
};

Deno.test("chatMessages() keeps the order of turns and skips unanswered ones' answers", () => {
  const messages = chatMessages([
    { question: "What?", pictures: [picture], answer: "A tree." },
    { question: "Sure?", pictures: [], answer: "" },
  ], "Be brief.");
  assert.deepEqual(messages, [
    { role: "system", content: "Be brief." },
    {
      role: "user",
      content: [
        { type: "image_url", image_url: { url: picture.url } },
        { type: "text", text: "What?" },
      ],
    },
    { role: "assistant", content: "A tree." },
    { role: "user", content: "Sure?" },
  ]);
});

Deno.test("chatMessages() sends no empty text part with a picture alone", () => {
  const [message] = chatMessages([{ question: "", pictures: [picture], answer: "" }], " ");
  assert.deepEqual(message?.content, [{ type: "image_url", image_url: { url: picture.url } }]);
});

Deno.test("chatBody() leaves out what the visitor left empty", () => {
  const body = chatBody("", [], {
    ...defaultSettings,
    temperature: undefined,
    maxTokens: 9,
  });
  assert.equal("temperature" in body, false);
  assert.equal("seed" in body, false);
  assert.equal("model" in body, false);
  assert.equal(body.max_completion_tokens, 9);
});

Deno.test("curlCommand() makes a command whose here-document is the body", async () => {
  const body = chatBody(
    "nano",
    chatMessages([{
      question: 'It\'s $HOME `x` \\ "q"\nJSON\n',
      pictures: [picture],
      answer: "",
    }], ""),
    defaultSettings,
  );
  const command = curlCommand("http://localhost:1", body, { withKey: true });
  assert.match(command, /Bearer \$API_KEY/);
  // A shell function in place of curl prints the here-document as curl would send it.
  const shell = await new Deno.Command("sh", {
    args: ["-c", `curl() { cat; }\n${command}`],
  }).output();
  assert.deepEqual(JSON.parse(new TextDecoder().decode(shell.stdout)), body);
});

Deno.test("shortenDataUrls() cuts pictures and nothing else", () => {
  const short = shortenDataUrls(`{"url": "${picture.url}", "text": "plain"}`);
  assert.match(short, /^\{"url": "data:image\/png;base64,A{24}… \(422 characters\)", "text"/);
});

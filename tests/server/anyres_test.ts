/** Pictures kept whole: same answer as a tile at the trained size, other sizes get their own grid. */
import assert from "node:assert/strict";
import { blackBmp } from "@/media/_bitmap.ts";
import { fixtureFolder, pictureUrl, ServerProcess } from "./server_process.ts";

/** A noisy BMP: the one format that is easy to write by hand. */
function bmpUrl(width: number, height: number): string {
  const bytes = blackBmp(width, height);
  for (let i = 54; i < bytes.length; i++) bytes[i] = (i * 2654435761) >>> 24;
  return `data:image/bmp;base64,${bytes.toBase64()}`;
}

const body = (url: string) => ({
  messages: [{
    role: "user",
    content: [{ type: "image_url", image_url: { url } }, { type: "text", text: "describe" }],
  }],
  temperature: 0,
  max_tokens: 8,
  ignore_eos: true,
  return_token_ids: true,
});

async function tokens(server: ServerProcess, url: string): Promise<number[]> {
  const response = await server.post("/v1/chat/completions", body(url));
  const answer = await response.json();
  assert.equal(response.status, 200, JSON.stringify(answer));
  return answer.choices[0].token_ids;
}

Deno.test("--anyres keeps pictures whole", async () => {
  const model = ["--model", `tiny=${fixtureFolder("dense")}`];
  await using tiled = await ServerProcess.start(model);
  await using whole = await ServerProcess.start([...model, "--anyres"]);
  const square = bmpUrl(56, 56); // the tile size of the fixture
  assert.deepEqual(await tokens(whole, square), await tokens(tiled, square));
  const wide = bmpUrl(280, 84);
  const rendered = await (await whole.post("/render", body(wide))).json();
  assert.equal(rendered.image_tokens, 10 * 3);
  const first = await tokens(whole, wide);
  assert.equal(first.length, 8);
  assert.deepEqual(await tokens(whole, wide), first, "cached pictures give the same tokens");
  assert.notDeepEqual(first, await tokens(whole, pictureUrl("dense", "big.png")));
});

/** Five hundred bad requests: each a clear 4xx in time; then the server still answers, memory flat. */
import assert from "node:assert/strict";
import { seededRandom } from "@/random.ts";
import { fixtureFolder, pictureUrl, ServerProcess } from "./server_process.ts";

const REQUESTS = 500;
const ANSWER_MS_MAX = 20_000;
const GROWTH_BYTES_MAX = 256 * 1024 * 1024;

const random = seededRandom(11);
const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
const png = pictureUrl("dense", "small.png");
const pngBytes = Uint8Array.fromBase64(png.split(",")[1]!);

/** A PNG whose header claims a picture of 60000 x 60000. */
function bombUrl(): string {
  const bytes = pngBytes.slice();
  new DataView(bytes.buffer).setUint32(16, 60_000);
  new DataView(bytes.buffer).setUint32(20, 60_000);
  return `data:image/png;base64,${bytes.toBase64()}`;
}

function truncatedUrl(): string {
  const length = Math.floor(random() * (pngBytes.length - 60));
  return `data:image/png;base64,${pngBytes.slice(0, length).toBase64()}`;
}

const image = (url: unknown) => ({ type: "image_url", image_url: { url } });
const user = (content: unknown) => ({ messages: [{ role: "user", content }] });
const hello = user("hi");

type Bad = { path?: string; body: unknown };

const kinds: readonly (() => Bad)[] = [
  () => ({ body: `{"messages": [${"[".repeat(Math.floor(random() * 50))}` }),
  () => ({ body: "[".repeat(5000) + "]".repeat(5000) }),
  () => ({ body: pick(["null", "3", `"text"`, "[]", "{}"]) }),
  () => ({ body: { ...hello, temperature: pick([-1, 3, "hot", {}]) } }),
  () => ({ body: { ...hello, top_p: pick([-0.1, 1.5, "x"]) } }),
  () => ({ body: { ...hello, max_tokens: pick([-5, 1.5, "many"]) } }),
  () => ({ body: { ...hello, n: pick([0, -1, 17, "two"]) } }),
  () => ({ body: { ...hello, model: pick(["gpt-4", "../../etc", ""]) } }),
  () => ({ body: { ...hello, stop: pick([3, Array(17).fill("x"), [[]]]) } }),
  () => ({ body: { ...hello, logprobs: true, top_logprobs: pick([-1, 21, "all"]) } }),
  () => ({ body: { ...hello, logit_bias: pick([{ x: 1 }, { 5: 1000 }, { 999999: 1 }, 7]) } }),
  () => ({ body: { messages: pick([[], "hi", [{ role: "wizard", content: "x" }], [{}]]) } }),
  () => ({ body: user([image(pick([truncatedUrl(), bombUrl(), "data:image/png;base64,%%%"]))]) }),
  () => ({ body: user([image(pick(["http://127.0.0.1/x.png", "file:///etc/passwd", 5, ""]))]) }),
  () => ({ body: user([image("data:image/png;base64,AAAA")]) }),
  () => ({ body: user([{ type: pick(["audio", "", 3]) }]) }),
  () => ({ body: user(Array(65).fill(image(png))) }),
  () => ({ path: "/v1/completions", body: { prompt: pick([[1.5], [-1], [99999], [[1], ["a"]]]) } }),
  () => ({ path: "/v1/completions", body: { prompt: Array(40_000).fill(300) } }),
  () => ({ path: "/tokenize", body: { prompt: 5 } }),
  () => ({ path: "/detokenize", body: { tokens: pick(["x", [-1], [1e9]]) } }),
  () => ({ path: "/v1/nothing", body: {} }),
];

interface ErrorAnswer {
  error: { message: string; type: string; param: string | null; code: string };
}

async function sendBad(server: ServerProcess, { path, body }: Bad): Promise<void> {
  const label = `${path ?? "chat"} ${JSON.stringify(body).slice(0, 200)}`;
  const response = await server.post(path ?? "/v1/chat/completions", body, {
    signal: AbortSignal.timeout(ANSWER_MS_MAX),
  });
  const answer = await response.json() as ErrorAnswer;
  assert.ok(response.status >= 400 && response.status < 500, `${response.status} for ${label}`);
  assert.ok(answer.error.message.length > 0, label);
  assert.ok(answer.error.type.length > 0 && answer.error.code.length > 0, label);
}

Deno.test("500 bad requests get a clear 4xx and leave the server as it was", async () => {
  await using server = await ServerProcess.start(["--model", `tiny=${fixtureFolder("dense")}`]);
  const good = async (): Promise<string> => {
    const response = await server.post("/v1/chat/completions", {
      ...user([image(png), { type: "text", text: "describe the image" }]),
      temperature: 0,
      max_tokens: 6,
    });
    assert.equal(response.status, 200);
    return (await response.json()).choices[0].message.content;
  };
  const before = await good();
  for (const kind of kinds) await sendBad(server, kind());
  const startBytes = await server.residentBytes();
  let sent = kinds.length;
  while (sent < REQUESTS) {
    const batch = Array.from({ length: 8 }, () => pick(kinds)());
    await Promise.all(batch.map((bad) => sendBad(server, bad)));
    sent += batch.length;
  }
  const tooLong = await server.post("/v1/chat/completions", user("word ".repeat(2_000_000)));
  assert.ok([400, 413].includes(tooLong.status), `${tooLong.status} for 10 MB of text`);
  await tooLong.body?.cancel();
  assert.equal(await good(), before);
  const grown = await server.residentBytes() - startBytes;
  assert.ok(grown < GROWTH_BYTES_MAX, `resident memory grew by ${grown} bytes`);
});

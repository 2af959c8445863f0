/** Golden greedy tokens through the whole server: token-id prompts and chats with the pictures. */
import { dirname, join } from "node:path";
import type { Backend } from "@/kernels/backend.ts";
import { workerCodec } from "@/media/codec.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { type Fixture, readGoldens, readJson } from "./parity_fixtures.ts";
import { checkpointFolder, type GoldenCase, type GoldenCases } from "./parity_model.ts";
import { ParityCheck, type ParityRow } from "./parity_report.ts";
import { type LocalApp, localApp } from "./local_app.ts";
import { openServing } from "./serving.ts";

interface Answer {
  readonly choices?: readonly { readonly token_ids?: readonly number[] }[];
  readonly error?: { readonly message: string };
}

/** Posts every case of a model fixture to an in-process server on one backend. */
export async function httpParity(
  fixture: Fixture,
  backend: Backend["name"],
): Promise<ParityRow[]> {
  const metrics = new Metrics();
  const serving = await openServing({
    id: "fixture",
    folder: checkpointFolder(fixture),
    backend: { name: backend },
    quantisation: "none",
    uprightPictures: false,
    log: silentLogger,
    metrics,
  });
  const codec = workerCodec();
  const check = new ParityCheck(fixture.name, `${backend}: greedy ids over HTTP`);
  try {
    const app = localApp({ serving, codec, metrics });
    const { cases } = await readJson<GoldenCases>(fixture.path);
    for (const goldenCase of cases) await checkCase({ app, fixture, goldenCase, check });
  } finally {
    codec.close();
    await serving.close();
  }
  return [check.row()];
}

async function checkCase(args: {
  app: LocalApp;
  fixture: Fixture;
  goldenCase: GoldenCase;
  check: ParityCheck;
}): Promise<void> {
  const { app, fixture, goldenCase, check } = args;
  const goldens = await readGoldens(dirname(fixture.path), `${goldenCase.name}.safetensors`);
  const expected = [...goldens.get("greedy_ids")!.values];
  const decoding = {
    temperature: 0,
    max_tokens: expected.length,
    ignore_eos: true,
    return_token_ids: true,
  };
  const compare = async (label: string, path: string, body: object): Promise<void> => {
    const response = await app.request(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "fixture", ...decoding, ...body }),
    });
    const answer = await response.json() as Answer;
    const ids = answer.choices?.[0]?.token_ids ?? [];
    const same = ids.join() === expected.join();
    check.record(`${goldenCase.name} ${label}`, same, answer.error?.message ?? `got ${ids}`);
  };
  if (goldenCase.images.length === 0) {
    const prompt = [...goldens.get("input_ids")!.values];
    await compare("token ids", "/v1/completions", { prompt });
  }
  await compare("chat", "/v1/chat/completions", {
    messages: await chatMessages(fixture, goldenCase),
  });
}

/** The conversation behind a golden prompt: pictures, then frames, then the question. */
async function chatMessages(fixture: Fixture, goldenCase: GoldenCase): Promise<object[]> {
  const { prompt } = goldenCase;
  const start = "<|im_start|>user\n";
  const content = prompt.slice(
    prompt.indexOf(start) + start.length,
    prompt.lastIndexOf("<|im_end|><|im_start|>assistant"),
  );
  const question = content.split("</img>\n").at(-1)!;
  const urls: string[] = [];
  for (const name of goldenCase.images) {
    const bytes = await Deno.readFile(join(checkpointFolder(fixture), "images", name));
    urls.push(`data:image/png;base64,${bytes.toBase64()}`);
  }
  const frameCount = content.match(/Frame-\d+: /g)?.length ?? 0;
  const stills = urls.slice(0, urls.length - frameCount);
  const parts: object[] = stills.map((url) => ({ type: "image_url", image_url: { url } }));
  if (frameCount > 0) parts.push({ type: "video", video: urls.slice(stills.length) });
  parts.push({ type: "text", text: question });
  const system = /^<\|im_start\|>system\n([\s\S]*?)<\|im_end\|>/.exec(prompt)?.[1] ?? "";
  return [{ role: "system", content: system }, { role: "user", content: parts }];
}

/** What quantised weights cost the shipped model, in answers right on held-out pictures. */
import { ok } from "node:assert/strict";
import { nanoFolder } from "@/cli/site.ts";
import { localApp } from "@/cli/local_app.ts";
import { openServing } from "@/cli/serving.ts";
import { inlineCodec } from "@/media/codec.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { type Precision, precisionLabel, precisionOf } from "@/weights/precision.ts";

interface Item {
  readonly question: string;
  readonly answer: string;
  readonly picture: string;
}

/** Requests in flight: they share steps, which changes no answer. */
const TOGETHER = 16;

const fixture = new URL("../fixtures/nano/held_out.jsonl", import.meta.url);
const items = (await Deno.readTextFile(fixture)).trim().split("\n")
  .map((line) => JSON.parse(line) as Item);

function bodyOf({ question, picture }: Item): string {
  const content = [
    { type: "image_url", image_url: { url: picture } },
    { type: "text", text: question },
  ];
  return JSON.stringify({ messages: [{ role: "user", content }], temperature: 0, max_tokens: 24 });
}

/** Percent of exact answers. */
async function score(precision: Precision): Promise<number> {
  const metrics = new Metrics();
  const serving = await openServing({
    id: "nano",
    folder: nanoFolder,
    backend: { name: "wasm", threads: 2 },
    ...precision,
    // The loss of the weights alone.
    kvFormat: "f32",
    uprightPictures: true,
    log: silentLogger,
    metrics,
  });
  const codec = inlineCodec();
  try {
    const app = localApp({ serving, codec, metrics });
    const ask = async (item: Item): Promise<boolean> => {
      const response = await app.request("/v1/chat/completions", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: bodyOf(item),
      });
      const answer = await response.json();
      ok(response.status === 200, JSON.stringify(answer));
      return answer.choices[0].message.content.trim() === item.answer;
    };
    let right = 0;
    for (let at = 0; at < items.length; at += TOGETHER) {
      const marks = await Promise.all(items.slice(at, at + TOGETHER).map(ask));
      right += marks.filter(Boolean).length;
    }
    return 100 * right / items.length;
  } finally {
    codec.close();
    await serving.close();
  }
}

Deno.test("nano loses at most 1 point in q8 and 2 in q4", async (test) => {
  const stored = await score(precisionOf({}));
  ok(stored >= 90, `nano answers ${stored} % of the held-out pictures`);
  for (const [quantisation, points] of [["q8", 1], ["q4", 2]] as const) {
    const precision = precisionOf({ quantisation });
    await test.step(precisionLabel(precision), async () => {
      const quantised = await score(precision);
      ok(quantised >= stored - points, `${quantised} % after ${stored} %`);
    });
  }
});

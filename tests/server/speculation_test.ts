/** The same requests over HTTP give the same answers whatever drafts tokens, and drafts come true. */
import assert from "node:assert/strict";
import { type LocalApp, localApp } from "@/cli/local_app.ts";
import { openServing } from "@/cli/serving.ts";
import type { SpeculationMode } from "@/engine/speculation.ts";
import { OperatingError } from "@/errors.ts";
import { inlineCodec } from "@/media/codec.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { fixtureFolder, pictureUrl } from "./server_process.ts";

function serving(speculation: SpeculationMode, metrics: Metrics, draftFolder?: string) {
  return openServing({
    id: "dense",
    folder: fixtureFolder("dense"),
    backend: { name: "wasm", threads: 2 },
    quantisation: "none",
    uprightPictures: true,
    log: silentLogger,
    metrics,
    speculation,
    ...(draftFolder !== undefined && { draftFolder }),
  });
}

async function withApp<T>(
  options: { speculation: SpeculationMode; draftFolder?: string },
  use: (app: LocalApp, metrics: Metrics) => Promise<T>,
): Promise<T> {
  const metrics = new Metrics();
  const opened = await serving(options.speculation, metrics, options.draftFolder);
  try {
    const app = localApp({ serving: opened, codec: inlineCodec(), metrics });
    return await use(app, metrics);
  } finally {
    await opened.close();
  }
}

/** Greedy and sampled, with penalties, bias, stop strings, several choices and a picture. */
function requests(): Record<string, unknown>[] {
  const text = "one two three one two three one two three ".repeat(4);
  return Array.from({ length: 10 }, (_, i) => ({
    messages: [{
      role: "user",
      content: [
        ...(i % 4 === 3
          ? [{ type: "image_url", image_url: { url: pictureUrl("dense", "small.png") } }]
          : []),
        { type: "text", text: text + i },
      ],
    }],
    temperature: i % 2 === 0 ? 0 : 0.4,
    frequency_penalty: i % 5 === 1 ? 0.3 : 0,
    repetition_penalty: i % 5 === 2 ? 1.1 : 1,
    logit_bias: i % 5 === 3 ? { 300: 4 } : {},
    stop: i % 3 === 0 ? ["a", "zz"] : [],
    min_tokens: i % 4 === 0 ? 5 : 0,
    n: i === 5 ? 3 : 1,
    seed: 40 + i,
    max_tokens: 60,
    ignore_eos: i % 4 !== 0,
    return_token_ids: true,
    logprobs: true,
    top_logprobs: 2,
  }));
}

interface Answer {
  readonly choices: readonly unknown[];
  readonly usage: {
    readonly completion_tokens: number;
    readonly completion_tokens_details: {
      readonly accepted_prediction_tokens: number;
      readonly rejected_prediction_tokens: number;
    };
  };
}

async function ask(app: LocalApp, body: object): Promise<Answer> {
  const response = await app.request("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  assert.equal(response.status, 200, JSON.stringify(answer));
  return answer as Answer;
}

/** What a client relies on: tokens, texts, log-probabilities, reasons and counts. */
function essence({ choices, usage }: Answer): string {
  return JSON.stringify([choices, usage.completion_tokens]);
}

Deno.test("dense over HTTP: no kind of speculation changes an answer, and drafts are accepted", async () => {
  const bodies = requests();
  const plain = await withApp({ speculation: "off" }, async (app) => {
    const answers: Answer[] = [];
    for (const body of bodies) answers.push(await ask(app, body));
    return answers;
  });
  const accepted = ({ usage }: Answer) =>
    usage.completion_tokens_details.accepted_prediction_tokens;
  assert.ok(plain.every((answer) => accepted(answer) === 0));
  const draftFolder = fixtureFolder("dense");
  for (
    const options of [
      { speculation: "lookup" },
      { speculation: "auto" },
      { speculation: "draft", draftFolder },
    ] as const
  ) {
    await withApp(options, async (app, metrics) => {
      const answers = await Promise.all(bodies.map((body) => ask(app, body)));
      assert.deepEqual(answers.map(essence), plain.map(essence), options.speculation);
      const total = answers.reduce((sum, answer) => sum + accepted(answer), 0);
      // The draft model is the model itself, so it is right but for pictures; copies are luck here.
      const least = { auto: 0, lookup: 1, draft: 200 }[options.speculation];
      assert.ok(total >= least, `${total} drafts accepted`);
      const counted = metrics.value("flotilla_draft_tokens_total", { outcome: "accepted" });
      assert.ok(counted >= total, "usage leaves out what came after a stop string");
      const off = await ask(app, { ...bodies[0], speculation: false });
      assert.equal(essence(off), essence(plain[0]!));
      assert.equal(accepted(off), 0);
    });
  }
});

Deno.test("a draft model with another vocabulary is refused by name", async () => {
  const folder = new URL("../../models/nano", import.meta.url).pathname;
  await assert.rejects(serving("draft", new Metrics(), folder), (error) => {
    assert.ok(error instanceof OperatingError && error.code === "checkpoint_invalid");
    assert.match(error.message, /vocabulary of \d+ tokens differs/);
    return true;
  });
});

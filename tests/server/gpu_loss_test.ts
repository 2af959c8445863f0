/** A GPU that is lost in the middle of an answer: the client's stream goes on as if nothing was. */
import assert from "node:assert/strict";
import { localApp } from "@/cli/local_app.ts";
import { openServing, type ServingOptions } from "@/cli/serving.ts";
import { inlineCodec } from "@/media/codec.ts";
import { Logger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { GpuDevices } from "../gpu_devices.ts";
import { webGpu } from "../kernels/backends.ts";
import { optionalTest } from "../skip.ts";
import { fixtureFolder, pictureUrl } from "./server_process.ts";

const question = {
  messages: [{
    role: "user",
    content: [
      { type: "image_url", image_url: { url: pictureUrl("dense", "small.png") } },
      { type: "text", text: "What is there?" },
    ],
  }],
  temperature: 0,
  max_tokens: 160,
  ignore_eos: true,
  return_token_ids: true,
};

interface Chunk {
  readonly choices: readonly {
    readonly token_ids?: readonly number[];
    readonly delta: { readonly content?: string };
    readonly finish_reason: string | null;
  }[];
}

interface Streamed {
  readonly ids: readonly number[];
  readonly text: string;
  readonly ends: readonly string[];
}

/** Streams the answer from a real HTTP server around a model; calls `at` after each chunk. */
async function stream(
  options: Pick<ServingOptions, "backend"> & { log: Logger; metrics: Metrics },
  at: (tokens: number) => void = () => {},
): Promise<Streamed & { readonly metricsText: string }> {
  const serving = await openServing({
    ...{ id: "dense", folder: fixtureFolder("dense"), quantisation: "none" },
    ...{ uprightPictures: true, contextTokens: 512, speculation: "off" },
    ...options,
  });
  const app = localApp({ serving, codec: inlineCodec(), metrics: options.metrics });
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app.fetch);
  const url = `http://127.0.0.1:${server.addr.port}`;
  try {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...question, stream: true }),
    });
    assert.equal(response.status, 200);
    const seen = { ids: [] as number[], text: "", ends: [] as string[] };
    for await (const data of eventsOf(response.body!)) {
      if (data === "[DONE]") continue;
      for (const choice of (JSON.parse(data) as Chunk).choices) {
        seen.ids.push(...choice.token_ids ?? []);
        seen.text += choice.delta.content ?? "";
        if (choice.finish_reason) seen.ends.push(choice.finish_reason);
      }
      at(seen.ids.length);
    }
    const metricsText = await (await fetch(`${url}/metrics`)).text();
    return { ...seen, metricsText };
  } finally {
    await server.shutdown();
    await serving.close();
  }
}

async function* eventsOf(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) if (line.startsWith("data: ")) yield line.slice("data: ".length);
  }
}

function logTo(lines: string[]): Logger {
  return new Logger({ level: "info", format: "json", write: (line) => lines.push(line) });
}

optionalTest(
  { name: "a stream goes on with the same tokens when its GPU is lost", needs: [webGpu] },
  async () => {
    const expected = await stream({
      ...{ backend: { name: "wasm", threads: 1 }, log: logTo([]), metrics: new Metrics() },
    });
    assert.equal(expected.ids.length, 160);
    using devices = new GpuDevices();
    const lines: string[] = [];
    let lostAfter: number | undefined;
    const { metricsText, ...streamed } = await stream({
      ...{ backend: { name: "webgpu", threads: 1 }, log: logTo(lines), metrics: new Metrics() },
    }, (tokens) => {
      if (tokens < 5 || lostAfter !== undefined) return;
      lostAfter = tokens;
      devices.destroyAll();
    });
    const { metricsText: _, ...wanted } = expected;
    assert.deepEqual(streamed, wanted);
    assert.ok(lostAfter! < 160, `lost after ${lostAfter} tokens`);
    assert.match(metricsText, /^flotilla_backend_fallbacks_total\{when="running"\} 1$/m);
    const said = lines.filter((line) => line.includes("the wasm kernels take over"));
    assert.equal(said.length, 1, lines.join("\n"));
  },
);

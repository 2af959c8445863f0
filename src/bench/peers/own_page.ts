/**
 * Our kernels and engine in a page, as browser_gpu.ts measures them beside other engines: entry of
 * a bundle that is made for the run. Reaches nothing of Deno.
 */
import { systemClock } from "@/clock.ts";
import { Engine } from "@/engine/engine.ts";
import { openWebGpuBackend } from "@/kernels/webgpu/backend.ts";
import { loadModel } from "@/model/load.ts";
import { greedyParams } from "@/sampling/params.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { memoryFolder } from "@/weights/source.ts";

export interface MatmulInput {
  readonly rows: number;
  readonly width: number;
  /** Products per sample, so that the way to the device and back matters little. */
  readonly products: number;
  readonly repeats: number;
}

export interface DecodeInput {
  /** Text of the shape's config.json. */
  readonly config: string;
  readonly quantisation: "none" | "q4";
  readonly tokens: number;
  readonly repeats: number;
}

/** What a page that loaded the bundle can be asked. */
export interface OwnPage {
  /** Milliseconds per product [rows, width] x [width, width], per sample. */
  matmul(input: MatmulInput): Promise<number[]>;
  /** Greedy tokens per second, per sample. */
  decode(input: DecodeInput): Promise<number[]>;
}

async function matmul({ rows, width, products, repeats }: MatmulInput): Promise<number[]> {
  const backend = await openWebGpuBackend();
  const weight = backend.createMatrix({ format: "f32", rows: width, columns: width });
  const values = Float32Array.from({ length: width * width }, (_, i) => Math.sin(i) / width);
  const bytes = new Uint8Array(values.buffer);
  await backend.packRows(weight, { firstRow: 0, rowCount: width, bytes, dtype: "F32" });
  const input = backend.allocate("f32", [rows, width]);
  const out = backend.allocate("f32", [rows, width]);
  backend.write(input, values.subarray(0, rows * width));
  const samples: number[] = [];
  // The first run compiles.
  for (let sample = 0; sample <= repeats; sample++) {
    const startMs = systemClock.nowMs();
    for (let i = 0; i < products; i++) backend.ops.matmul({ input, weight, out });
    await backend.read(out);
    samples.push((systemClock.nowMs() - startMs) / products);
  }
  await backend.close();
  return samples.slice(1);
}

async function decode(
  { config, quantisation, tokens, repeats }: DecodeInput,
): Promise<number[]> {
  const backend = await openWebGpuBackend();
  const files = new Map([["config.json", new TextEncoder().encode(config)]]);
  const precision = { quantisation, preset: "uniform" } as const;
  const { model } = await loadModel({
    ...{ folder: memoryFolder("shape", files), backend, ...precision, synthetic: true },
    bounds: { contextTokens: 512, stepTiles: 1 },
  });
  const engine = new Engine({
    ...{ model, usableVocabulary: model.vocabularySize, forbiddenIds: [], speculation: "off" },
    kv: { format: "f32", pages: 64 },
    ...{ clock: systemClock, log: silentLogger, metrics: new Metrics() },
    bounds: { stepTiles: 1 },
  });
  const samples: number[] = [];
  for (let sample = 0; sample <= repeats; sample++) {
    const generation = engine.submit({
      ...{ id: `sample-${sample}`, promptIds: [sample + 5], tiles: [], choices: 1 },
      promptLogprobs: false,
      params: { ...greedyParams, maxTokens: tokens + 1, ignoreEos: true },
    });
    const timesMs: number[] = [];
    for await (const { type } of generation) {
      if (type === "token") timesMs.push(systemClock.nowMs());
    }
    samples.push(tokens * 1000 / (timesMs.at(-1)! - timesMs[0]!));
  }
  await engine.close();
  await backend.close();
  return samples.slice(1);
}

Object.assign(globalThis, { ours: { matmul, decode } satisfies OwnPage, ready: true });

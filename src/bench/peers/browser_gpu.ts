/**
 * Our WebGPU kernels and those of other engines, in one headless Chromium on its software adapter:
 * a matrix product and the decode of a small shape. Ratios say something; speeds are the
 * processor's, which plays the GPU.
 */
import { join } from "node:path";
import { OperatingError } from "@/errors.ts";
import { type ModelConfig, readModelConfig } from "@/model/config.ts";
import { asGoodAs, besidePeer, type Row, rowOf, summarize } from "../report.ts";
import { type PageOptions, withPage } from "./browser.ts";
import { ggufFile } from "./llama_cpp.ts";
import { writeModel } from "./onnx.ts";
import { decoderGraph, matmulGraph } from "./onnx_decoder.ts";
import type { DecodeInput, MatmulInput, OwnPage } from "./own_page.ts";
import { exists, type Peer, type PeerContext, type PeerName } from "./peer.ts";

/** The small shape, and how many tokens it answers. */
const SHAPE = "small";
const TOKENS = 8;
const [ROWS, WIDTH, PRODUCTS] = [64, 512, 2] as const;
/** Tokens that the fixed context of the ONNX graph has: about as many as we have half-way. */
const CONTEXT_TOKENS = TOKENS / 2;

export interface BrowserGpuOptions {
  readonly context: PeerContext;
  readonly peers: readonly Peer[];
  readonly shapesFolder: string;
}

/** Peers that run on a page's GPU. */
export const browserGpuPeers: readonly PeerName[] = ["onnxruntime-web", "wllama"];

/** Rows of ours and of the peers that were asked for. */
export async function measureBrowserGpu(options: BrowserGpuOptions): Promise<Row[]> {
  const { context, peers, shapesFolder } = options;
  const text = await Deno.readTextFile(join(shapesFolder, "small-2-layers/config.json"));
  const own = await measureOwn(context, text);
  const rows: Row[] = [];
  for (
    const [row, peer] of [
      ["matmul", "onnxruntime-web"],
      ["plain", "onnxruntime-web"],
      ["packed", "wllama"],
    ] as const
  ) {
    const found = peers.some(({ name }) => name === peer)
      ? await measurePeer(context, row, readModelConfig({ config: JSON.parse(text) }))
      : undefined;
    rows.push(...besides(own[row], peer, found));
  }
  return rows;
}

type OwnRows = Readonly<Record<"matmul" | "plain" | "packed", Row>>;

function besides(row: Row, name: PeerName, found: PeerSpeed | undefined): Row[] {
  if (found === undefined) return [row];
  if (typeof found === "string") return [{ ...row, note: `${name}: ${found}` }];
  const value = summarize(found).median;
  const { unit, better } = row;
  const peerRow = rowOf({ name: `peer/${name}/${row.name}`, unit, better }, found);
  return [besidePeer(row, { name, value }), { ...peerRow, ratio: asGoodAs(row, value) }];
}

/** Samples, or why there are none. */
type PeerSpeed = readonly number[] | string;

async function measureOwn(context: PeerContext, config: string): Promise<OwnRows> {
  context.progress("our kernels in Chromium");
  // Only here: a benchmark without pages must not need the bundler.
  const { bundle } = await import("@/web/bundle.ts");
  const files = await bundle({ own: new URL("./own_page.ts", import.meta.url) });
  const html = '<!doctype html><script type="module" src="/own.js"></script>';
  const scripts = { "/own.js": new Uint8Array(files.get("own.js")!) };
  const page = { html, folder: context.cacheFolder, files: {}, scripts, softwareGpu: true };
  const { repeats } = context;
  const product: MatmulInput = { rows: ROWS, width: WIDTH, products: PRODUCTS, repeats };
  const answers = (quantisation: DecodeInput["quantisation"]): DecodeInput => {
    return { config, quantisation, tokens: TOKENS, repeats };
  };
  return await withPage(page, async (page) => {
    const ask = (input: { product: MatmulInput } | { decode: DecodeInput }) =>
      page.evaluate((input) => {
        const { ours } = globalThis as unknown as { ours: OwnPage };
        return "product" in input ? ours.matmul(input.product) : ours.decode(input.decode);
      }, input);
    const speed = { unit: "tok/s", better: "more" } as const;
    const decodeRow = async (quantisation: DecodeInput["quantisation"]) =>
      rowOf(
        { name: `browser/decode/${SHAPE}/${quantisation}`, ...speed },
        await ask({ decode: answers(quantisation) }),
      );
    return {
      matmul: rowOf(
        { name: `browser/matmul/f32/${ROWS}x${WIDTH}`, unit: "ms", better: "less" },
        await ask({ product }),
      ),
      plain: await decodeRow("none"),
      packed: await decodeRow("q4"),
    };
  });
}

/** What a peer's page says of one row; a peer that cannot do it says why. */
async function measurePeer(
  context: PeerContext,
  row: keyof OwnRows,
  config: ModelConfig,
): Promise<PeerSpeed> {
  const { cacheFolder, repeats } = context;
  const onnx = (name: string) => join(cacheFolder, `browser-${name}.onnx`);
  if (row === "matmul") {
    const path = onnx(`matmul-${ROWS}x${WIDTH}`);
    if (!await exists(path)) await writeModel(path, matmulGraph({ rows: ROWS, width: WIDTH }));
    context.progress("onnxruntime-web on WebGPU: matrix product");
    const input = { rows: ROWS, width: WIDTH, products: PRODUCTS, repeats };
    return await asked(onnxPage(context, path, productScript), input);
  }
  if (row === "plain") {
    const path = onnx(`decoder-${SHAPE}`);
    if (!await exists(path)) {
      await writeModel(path, decoderGraph(config.decoder, CONTEXT_TOKENS));
    }
    context.progress("onnxruntime-web on WebGPU: decode");
    return await asked(onnxPage(context, path, decodeScript), { tokens: TOKENS, repeats });
  }
  const model = await ggufFile(context, { shape: SHAPE, config, format: "q4" });
  context.progress("wllama on WebGPU: decode");
  return await asked(wllamaPage(context, model), { tokens: TOKENS, repeats });
}

async function asked(page: PageOptions, input: object): Promise<PeerSpeed> {
  try {
    return await withPage(page, (page) =>
      page.evaluate((input) => {
        const { measure } = globalThis as unknown as {
          measure(input: unknown): Promise<number[]>;
        };
        return measure(input);
      }, input));
  } catch (error) {
    if (error instanceof OperatingError && !error.message.includes("Cannot measure")) throw error;
    const message = error instanceof Error ? error.message : String(error);
    return `does not run here (${message.split("\n")[0]!.slice(0, 160)})`;
  }
}

function onnxPage(context: PeerContext, model: string, measure: string): PageOptions {
  const html = `<!doctype html><script type="module">
import * as ort from "./ort.webgpu.min.mjs";
ort.env.wasm.wasmPaths = "/";
const open = async (options = {}) => {
  const model = await (await fetch("/model.onnx")).arrayBuffer();
  const session = await ort.InferenceSession.create(model, {
    executionProviders: ["webgpu"], ...options,
  });
  return session;
};
${measure}
globalThis.ready = true;
</script>`;
  const folder = join(context.cacheFolder, "node_modules/onnxruntime-web/dist");
  return { html, folder, files: { "/model.onnx": model }, softwareGpu: true };
}

/** Results stay on the device but the last, as ours do. */
const productScript = `globalThis.measure = async ({ rows, width, products, repeats }) => {
  const session = await open({ preferredOutputLocation: "gpu-buffer" });
  const values = Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i) / width);
  const x = new ort.Tensor("float32", values, [rows, width]);
  const samples = [];
  for (let sample = 0; sample <= repeats; sample++) {
    const startMs = performance.now();
    for (let i = 0; i < products; i++) {
      const out = Object.values(await session.run({ x }))[0];
      if (i === products - 1) await out.getData();
      out.dispose();
    }
    samples.push((performance.now() - startMs) / products);
  }
  return samples.slice(1);
};`;

const decodeScript = `globalThis.measure = async ({ tokens, repeats }) => {
  const session = await open();
  const samples = [];
  for (let sample = 0; sample <= repeats; sample++) {
    let id = new ort.Tensor("int64", BigInt64Array.of(BigInt(sample + 5)), [1, 1]);
    id = Object.values(await session.run({ id }))[0];
    const startMs = performance.now();
    for (let i = 0; i < tokens; i++) id = Object.values(await session.run({ id }))[0];
    samples.push(tokens * 1000 / (performance.now() - startMs));
  }
  return samples.slice(1);
};`;

function wllamaPage(context: PeerContext, model: string): PageOptions {
  const html = `<!doctype html><script type="module">
import { Wllama } from "./index.js";
globalThis.measure = async ({ tokens, repeats }) => {
  const said = [];
  const say = (...words) => said.push(words.join(" "));
  const logger = { debug: say, log: say, warn: say, error: say };
  const wllama = new Wllama({ default: "/wasm/wllama.wasm" }, { logger });
  const model = await (await fetch("/model.gguf")).blob();
  await wllama.loadModel([model], { n_ctx: 512, n_gpu_layers: 99 });
  const log = said.join("\\n");
  if (!/webgpu/i.test(log)) {
    // The engine inside leaves such an adapter out without a word.
    const adapter = await navigator.gpu?.requestAdapter();
    const lacks = adapter?.features.has("shader-f16") ? "no WebGPU device" :
      "needs shader-f16, which this adapter lacks";
    throw new Error(lacks + "; its log: " + log.match(/load_tensors: .*buffer size.*/)?.[0]);
  }
  const samples = [];
  for (let sample = 0; sample <= repeats; sample++) {
    let [firstMs, lastMs, count] = [0, 0, 0];
    const stream = await wllama.createCompletion({
      prompt: "abcd", max_tokens: tokens + 1, temperature: 0, ignore_eos: true,
      cache_prompt: false, stream: true,
    });
    for await (const _ of stream) {
      lastMs = performance.now();
      if (count++ === 0) firstMs = lastMs;
    }
    samples.push((count - 1) * 1000 / (lastMs - firstMs));
  }
  return samples.slice(1);
};
globalThis.ready = true;
</script>`;
  const folder = join(context.cacheFolder, "node_modules/@wllama/wllama/esm");
  return { html, folder, files: { "/model.gguf": model }, softwareGpu: true };
}

/** onnxruntime-web (WebAssembly, float32) in headless Chromium: the vision tower of one tile. */
import { join } from "node:path";
import { summarize } from "../report.ts";
import { findChromium, withPage } from "./browser.ts";
import { writeTower } from "./onnx.ts";
import {
  exists,
  missingPeer,
  type Peer,
  type PeerContext,
  type PeerResult,
  type PeerTask,
} from "./peer.ts";

const VERSION = "1.30";

const folderOf = ({ cacheFolder }: PeerContext) =>
  join(cacheFolder, "node_modules/onnxruntime-web/dist");

const html = `<!doctype html><script type="module">
import * as ort from "./ort.wasm.min.mjs";
globalThis.measure = async ({ patches, patchWidth, threads, repeats }) => {
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = "/";
  const model = await (await fetch("/tower.onnx")).arrayBuffer();
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  const values = Float32Array.from({ length: patches * patchWidth }, (_, i) => Math.sin(i));
  const pixels = new ort.Tensor("float32", values, [1, patches, patchWidth]);
  const seconds = [];
  for (let i = 0; i < repeats; i++) {
    const startMs = performance.now();
    await session.run({ pixels });
    seconds.push((performance.now() - startMs) / 1000);
  }
  return seconds;
};
globalThis.ready = true;
</script>`;

async function towerFile(context: PeerContext, task: PeerTask): Promise<string> {
  const path = join(context.cacheFolder, `${task.shape}-tower.onnx`);
  if (await exists(path)) return path;
  context.progress(`writing ${path}`);
  const { hiddenWidth, intermediateWidth, layers, heads, patchSize } = task.config.vision;
  const patches = (task.config.preprocess.tileSize / patchSize) ** 2;
  const patchWidth = 3 * patchSize ** 2;
  await Deno.mkdir(context.cacheFolder, { recursive: true });
  await writeTower(path, { hiddenWidth, intermediateWidth, layers, heads, patches, patchWidth });
  return path;
}

export const onnxruntimeWeb: Peer = {
  name: "onnxruntime-web",

  async check(context) {
    const { cacheFolder } = context;
    if (!await exists(join(folderOf(context), "ort.wasm.min.mjs"))) {
      const install = `npm install --prefix ${cacheFolder} onnxruntime-web@${VERSION}`;
      throw missingPeer("onnxruntime-web", `it is not installed; run ${install}`);
    }
    if (await findChromium() === undefined) {
      throw missingPeer("onnxruntime-web", "there is no Chromium; install it or set $CHROMIUM");
    }
  },

  async open(context, task) {
    const tower = await towerFile(context, task);
    return {
      measure: () => measureTower(context, { tower, task }),
      async [Symbol.asyncDispose]() {},
    };
  },
};

async function measureTower(
  context: PeerContext,
  { tower, task }: { tower: string; task: PeerTask },
): Promise<readonly PeerResult[]> {
  context.progress("onnxruntime-web: one tile (about a minute)");
  const { patchSize } = task.config.vision;
  const input = {
    patches: (task.config.preprocess.tileSize / patchSize) ** 2,
    patchWidth: 3 * patchSize ** 2,
    threads: context.threads,
    repeats: 2,
  };
  const options = { html, folder: folderOf(context), files: { "/tower.onnx": tower } };
  const seconds = await withPage(options, (page) =>
    page.evaluate((input) => {
      const { measure } = globalThis as unknown as {
        measure(input: unknown): Promise<number[]>;
      };
      return measure(input);
    }, input));
  // The first run warms up.
  return [{ of: "tile", samples: summarize(seconds.slice(1)) }];
}

/** wllama (llama.cpp compiled to WebAssembly, its npm build) in headless Chromium. */
import { join } from "node:path";
import { summarize } from "../report.ts";
import { findChromium, openPage } from "./browser.ts";
import { ggufFile } from "./llama_cpp.ts";
import { exists, missingPeer, type Peer, type PeerContext } from "./peer.ts";

const VERSION = "3.8.1";
/** It reads about two tokens per second: few tokens tell as much as many. */
const PROMPT_TOKENS = 64;
const ANSWER_TOKENS = 8;

const folderOf = ({ cacheFolder }: PeerContext) =>
  join(cacheFolder, "node_modules/@wllama/wllama/esm");

/** Timings by wllama's own clock, in ms, of one prompt and one answer. */
interface PageResult {
  readonly firstTokenMs: number;
  readonly answerMs: number;
  readonly events: number;
}

/** The prompt's words are pairs of letters, one token each in the made-up vocabulary. */
const html = `<!doctype html><script type="module">
import { Wllama } from "./index.js";
globalThis.load = async (threads) => {
  globalThis.wllama = new Wllama({ default: "/wasm/wllama.wasm" });
  const model = await (await fetch("/model.gguf")).blob();
  await wllama.loadModel([model], { n_ctx: 1024, n_threads: threads, n_gpu_layers: 0 });
};
globalThis.measure = async ({ prompt, tokens }) => {
  const startMs = performance.now();
  let [firstMs, count] = [0, 0];
  const stream = await wllama.createCompletion({
    prompt, max_tokens: tokens, temperature: 0, ignore_eos: true, cache_prompt: false, stream: true,
  });
  for await (const _ of stream) if (count++ === 0) firstMs = performance.now();
  return { firstTokenMs: firstMs - startMs, answerMs: performance.now() - firstMs, events: count };
};
globalThis.ready = true;
</script>`;

function letterPairs(count: number): string {
  const letter = (index: number) => String.fromCharCode(97 + index % 26);
  return Array.from({ length: count }, (_, i) => letter(i * 7) + letter(i * 11 + (i >> 3))).join(
    "",
  );
}

export const wllama: Peer = {
  name: "wllama",

  async check(context) {
    const { cacheFolder } = context;
    if (!await exists(join(folderOf(context), "index.js"))) {
      const install = `npm install --prefix ${cacheFolder} @wllama/wllama@${VERSION}`;
      throw missingPeer("wllama", `it is not installed; run ${install}`);
    }
    if (await findChromium() === undefined) {
      throw missingPeer("wllama", "there is no Chromium; install it or name it in $CHROMIUM");
    }
  },

  async open(context, task) {
    const model = await ggufFile(context, task);
    context.progress(`wllama ${task.shape} ${task.format} (a minute)`);
    const options = { html, folder: folderOf(context), files: { "/model.gguf": model } };
    const opened = await openPage(options);
    await opened.ask((page) =>
      page.evaluate((threads) => {
        const { load } = globalThis as unknown as { load(threads: number): Promise<void> };
        return load(threads);
      }, context.threads)
    );
    const answer = (promptTokens: number, tokens: number) =>
      opened.ask((page) =>
        page.evaluate((input) => {
          const { measure } = globalThis as unknown as {
            measure(input: unknown): Promise<PageResult>;
          };
          return measure(input);
        }, { prompt: letterPairs(promptTokens), tokens })
      );
    return {
      async measure() {
        const { firstTokenMs } = await answer(PROMPT_TOKENS, 1);
        const samples = summarize([PROMPT_TOKENS * 1000 / firstTokenMs]);
        const note = `prompt of ${PROMPT_TOKENS} tokens`;
        return [{ of: "prefill", samples, note }];
      },
      async decode() {
        const { answerMs, events } = await answer(2, ANSWER_TOKENS);
        // A last event without a token may follow.
        return (Math.min(events, ANSWER_TOKENS) - 1) * 1000 / answerMs;
      },
      decodeNote: `answers of ${ANSWER_TOKENS} tokens`,
      [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
    };
  },
};

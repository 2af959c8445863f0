/**
 * The real application around a scripted generator: real tokenizer and grammar of the tiny
 * checkpoint, pictures by name, a still clock and counted ids, so that answers are reproducible.
 */
import { createApp } from "@/api/app.ts";
import type { AppDependencies } from "@/api/services.ts";
import type { PictureLoader } from "@/chat/images.ts";
import { findPromptTokens, type ServedModel } from "@/chat/served_model.ts";
import { readGrammar } from "@/chat/template.ts";
import { OperatingError } from "@/errors.ts";
import type { Codec } from "@/media/codec.ts";
import type { TiledImage } from "@/media/tiling.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { loadTokenizer } from "@/tokenizer/tokenizer_folder.ts";
import { type Script, ScriptedGenerator } from "./scripted_generator.ts";

export const FIXTURES = new URL("../fixtures/model/", import.meta.url).pathname;
export const tokenizer = await loadTokenizer(`${FIXTURES}dense`);
const chatTemplate = await Deno.readTextFile(`${FIXTURES}dense/chat_template.jinja`);
export const END_TOKEN_ID = tokenizer.tokenId("<|im_end|>")!;
const TILE_SIZE = 56;

/** Token ids of a text in which special tokens match, as a model would say it. */
export function say(text: string): number[] {
  return tokenizer.encode(text);
}

export function testModel(
  generator: ScriptedGenerator,
  overrides: Partial<ServedModel> = {},
): ServedModel {
  return {
    id: "tiny",
    generator,
    tokenizer,
    grammar: readGrammar(chatTemplate),
    promptTokens: findPromptTokens(tokenizer),
    endTokenIds: [END_TOKEN_ID],
    tileSize: TILE_SIZE,
    tokensPerTile: 4,
    wholePictures: undefined,
    tilesMax: 6,
    msac: false,
    thumbnail: true,
    uprightPictures: true,
    contextTokens: 2048,
    usableVocabulary: tokenizer.size,
    thinking: true,
    numericClass: "scripted",
    createdEpochSeconds: 1_700_000_000,
    facts: { architecture: "SAILVLModel", backend: "scripted" },
    ...overrides,
  };
}

/** `data:,tiles=3` is a picture of three tiles; `data:,wait=500` takes so long to load. */
class NamedPictures implements PictureLoader, Pick<Codec, "prepareTiles" | "prepareFrames"> {
  readonly loads: string[] = [];
  readonly cancelledAtMs: number[] = [];

  async load(
    url: string,
    { signal, field }: { signal: AbortSignal; field: string },
  ): Promise<Uint8Array> {
    this.loads.push(url);
    const [, name] = /^data:,(.*)$/.exec(url) ?? [];
    if (name === undefined) {
      throw new OperatingError("media_forbidden", `Cannot fetch ${url}: not allowed`, { field });
    }
    const wait = Number(/wait=(\d+)/.exec(name)?.[1] ?? 0);
    if (wait > 0) {
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(resolve, wait);
        signal.addEventListener("abort", () => {
          clearTimeout(timer);
          this.cancelledAtMs.push(performance.now());
          reject(new OperatingError("cancelled", "Fetch was cancelled"));
        }, { once: true });
      });
    }
    return new TextEncoder().encode(name);
  }

  prepareTiles(...[bytes, request, options]: Parameters<Codec["prepareTiles"]>) {
    return this.#tile(bytes, options?.field, (tiles) => Math.min(tiles, request.maxTiles));
  }

  prepareFrames(...[bytes, request, options]: Parameters<Codec["prepareFrames"]>) {
    return this.#tile(bytes, options?.field, (tiles) => Math.min(tiles, request.count));
  }

  #tile(
    bytes: Uint8Array,
    field: string | undefined,
    clamp: (tiles: number) => number,
  ): Promise<TiledImage> {
    const name = new TextDecoder().decode(bytes);
    if (name.includes("broken")) {
      const message = "Cannot decode image: it is damaged";
      return Promise.reject(new OperatingError("invalid_media", message, { field }));
    }
    const tileCount = clamp(Number(/tiles=(\d+)/.exec(name)?.[1] ?? 1));
    const tileBytes = TILE_SIZE * TILE_SIZE * 3;
    return Promise.resolve({
      tileSize: TILE_SIZE,
      grid: { columns: tileCount, rows: 1 },
      tiles: new Uint8Array(tileCount * tileBytes).map((_, i) => Math.floor(i / tileBytes)),
      tileCount,
      tileHashes: Array.from({ length: tileCount }, (_, index) => `${name}#${index}`),
      sourceWidth: tileCount * TILE_SIZE,
      sourceHeight: TILE_SIZE,
    });
  }
}

export interface TestAppOptions {
  readonly script?: Partial<Script>;
  readonly model?: Partial<ServedModel>;
  readonly app?: Partial<AppDependencies>;
}

/** An app that answers "Hello there!" unless the script says otherwise. */
export function testApp({ script, model, app: dependencies }: TestAppOptions = {}) {
  const generator = new ScriptedGenerator({
    tokens: () => say("Hello there!"),
    endTokenIds: [END_TOKEN_ID],
    ...script,
  });
  const pictures = new NamedPictures();
  const metrics = new Metrics();
  let idCount = 0;
  const app = createApp({
    models: [testModel(generator, model)],
    clock: { nowMs: () => performance.now(), epochMs: () => 1_790_000_000_000 },
    log: silentLogger,
    metrics,
    mediaLoader: pictures,
    // The chat layer cuts tiles and frames; it never asks for anything else.
    codec: pictures as unknown as Codec,
    version: "0.0.0",
    ready: () => true,
    startedAtMs: 0,
    newId: () => `${++idCount}`,
    ...dependencies,
  });
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    Promise.resolve(app.request(path, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
    }));
  return { app, post, generator, pictures, metrics };
}

/** The events of a stream: parsed `data:` lines, comments, and the end mark as they are. */
export function parseEvents(text: string): (string | Record<string, unknown>)[] {
  return text.split("\n\n").filter((event) => event !== "").map((event) => {
    if (!event.startsWith("data: ") || event === "data: [DONE]") return event;
    return JSON.parse(event.slice("data: ".length));
  });
}

/** Answers of the API as tests read them. */
// deno-lint-ignore no-explicit-any
export async function json(response: Response | Promise<Response>): Promise<any> {
  return await (await response).json();
}

export const hello = { messages: [{ role: "user", content: "Hi" }] };

/**
 * A model on an engine, ready to be measured: the same parts that serve, without API and chat.
 * Opens, drives and closes them; decides nothing about what is measured.
 */
import { assert } from "@/assert.ts";
import type { Clock } from "@/clock.ts";
import { Engine } from "@/engine/engine.ts";
import type { PromptTile } from "@/engine/request.ts";
import type { Backend } from "@/kernels/backend.ts";
import { type BackendOptions, openBackend } from "@/kernels/open.ts";
import { type LoadedModel, loadModel } from "@/model/load.ts";
import { memoryNeed } from "@/model/memory_need.ts";
import { seededRandom } from "@/random.ts";
import { greedyParams } from "@/sampling/params.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import type { Precision } from "@/weights/precision.ts";
import { diskFolder } from "@/weights/disk_folder.ts";

export interface RigOptions {
  /** Folder with at least a config.json; weights are drawn from a seed. */
  readonly folder: string;
  readonly precision: Precision;
  readonly backend: BackendOptions;
  readonly clock: Clock;
  readonly onLoad?: (share: number) => void;
}

/** KV cache of a rig: a picture, a long prompt, or sixteen short sequences. */
const KV_TOKENS = 2048;
const SEED = 20_26;
/** KV cache, encoded pictures and the kernels' heap, which decide the address width too. */
const OTHER_BYTES = 768 * 1024 * 1024;

/** When the events of one request arrived, in clock milliseconds. */
export interface Timeline {
  readonly submittedMs: number;
  readonly tokensMs: readonly number[];
}

export class Rig {
  readonly engine: Engine;
  readonly backend: Backend;
  readonly loaded: LoadedModel;
  readonly clock: Clock;
  readonly loadSeconds: number;
  readonly #random = seededRandom(SEED);
  #requests = 0;

  private constructor(parts: {
    engine: Engine;
    backend: Backend;
    loaded: LoadedModel;
    clock: Clock;
    loadSeconds: number;
  }) {
    this.engine = parts.engine;
    this.backend = parts.backend;
    this.loaded = parts.loaded;
    this.clock = parts.clock;
    this.loadSeconds = parts.loadSeconds;
  }

  /** Throws OperatingError when the shape or the machine does not allow it. */
  static async open(options: RigOptions): Promise<Rig> {
    const { clock, precision, onLoad } = options;
    const startMs = clock.nowMs();
    const model = { folder: diskFolder(options.folder), ...precision, synthetic: true };
    const bounds = { contextTokens: KV_TOKENS, stepTiles: 1 };
    const { weightBytes, scratchBytes } = await memoryNeed({ ...model, bounds });
    const memoryBytes = weightBytes + scratchBytes + OTHER_BYTES;
    const backend = await openBackend({ memoryBytes, ...options.backend });
    try {
      const loaded = await loadModel({
        ...model,
        backend,
        bounds,
        onProgress: (done, total) => onLoad?.(done / total),
      });
      const engine = new Engine({
        model: loaded.model,
        kv: {
          format: precision.quantisation === "none" ? "f32" : "f16",
          pages: Math.ceil(KV_TOKENS / 16) + 1,
        },
        usableVocabulary: loaded.model.vocabularySize,
        forbiddenIds: [],
        // Random weights repeat themselves: copied drafts would come true too often.
        speculation: "off",
        clock,
        log: silentLogger,
        metrics: new Metrics(),
        bounds: { stepTiles: 1 },
      });
      const loadSeconds = (clock.nowMs() - startMs) / 1000;
      return new Rig({ engine, backend, loaded, clock, loadSeconds });
    } catch (error) {
      await backend.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.engine.close();
    await this.backend.close();
  }

  /** Token ids that no earlier prompt began with, so that no cache has them. */
  promptIds(count: number): number[] {
    const { vocabularySize } = this.loaded.model;
    return Array.from({ length: count }, () => Math.floor(this.#random() * vocabularySize));
  }

  /** Pixels of a tile that no cache has. */
  pixels(): Uint8Array {
    const { tileSize } = this.loaded.model;
    return Uint8Array.from({ length: tileSize ** 2 * 3 }, () => this.#random() * 256);
  }

  /** A tile whose visual tokens start at `start`. */
  tile(start: number): PromptTile {
    return { hash: `bench-tile-${this.#requests}-${start}`, pixels: this.pixels(), start };
  }

  /** Runs one greedy request of exactly `tokens` answer tokens and notes when each arrived. */
  async generate(
    prompt: { ids: readonly number[]; tiles?: readonly PromptTile[] },
    tokens: number,
  ): Promise<Timeline> {
    const submittedMs = this.clock.nowMs();
    const generation = this.engine.submit({
      id: `bench-${this.#requests++}`,
      promptIds: prompt.ids,
      tiles: prompt.tiles ?? [],
      params: { ...greedyParams, maxTokens: tokens, ignoreEos: true },
      choices: 1,
      promptLogprobs: false,
    });
    const tokensMs: number[] = [];
    for await (const event of generation) {
      if (event.type === "token") tokensMs.push(this.clock.nowMs());
    }
    assert(tokensMs.length === tokens, `${tokensMs.length} tokens of ${tokens}`);
    return { submittedMs, tokensMs };
  }
}

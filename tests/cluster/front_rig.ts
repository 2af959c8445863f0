/** A server in this process, with or without shards, and answers that can be compared bit by bit. */
import assert from "node:assert/strict";
import type { ClusterFlags } from "@/cli/cluster_flags.ts";
import { type LocalApp, localApp } from "@/cli/local_app.ts";
import { openServing, type Serving } from "@/cli/serving.ts";
import { inlineCodec } from "@/media/codec.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import type { Quantisation } from "@/weights/precision.ts";
import { eventually, waitFor } from "../patience.ts";
import { fixtureFolder } from "../server/server_process.ts";

export interface RigOptions {
  readonly quantisation: Quantisation;
  readonly addresses?: readonly string[];
  readonly replicas?: number;
  readonly fallback?: boolean;
  /** Another one than the fixture. */
  readonly model?: { readonly folder: string; readonly synthetic: boolean };
  readonly backend?: "wasm" | "webgpu";
  readonly metrics?: Metrics;
  /** Other ways to the shards; without them and addresses nothing is shared. */
  readonly cluster?: Partial<ClusterFlags>;
}

/** Token ids and the bits of every log probability that the API shows. */
export interface Answer {
  readonly tokens: readonly number[];
  readonly logprobs: unknown;
}

/** A second or two on an idle machine, also after a shard's process has started. */
const COVERED_MS = 60_000;

export class FrontRig implements AsyncDisposable {
  readonly serving: Serving;
  readonly #app: LocalApp;

  private constructor(serving: Serving, app: LocalApp) {
    this.serving = serving;
    this.#app = app;
  }

  static async open(options: RigOptions): Promise<FrontRig> {
    const { quantisation, addresses, replicas = 1, fallback = false } = options;
    const { backend: name = "wasm", metrics = new Metrics() } = options;
    const cluster: ClusterFlags = {
      ...{ addresses: addresses ?? [], nats: undefined, replicas, allowPlaintext: false },
      localExperts: fallback ? "some" : "none",
      ...options.cluster,
    };
    const serving = await openServing({
      id: "moe",
      ...(options.model ?? { folder: fixtureFolder("moe") }),
      backend: { name, threads: 1 },
      uprightPictures: true,
      log: silentLogger,
      metrics,
      quantisation,
      speculation: "off",
      contextTokens: 512,
      ...((addresses ?? options.cluster) && { cluster }),
    });
    const app = localApp({ serving, codec: inlineCodec(), metrics });
    return new FrontRig(serving, app);
  }

  /** Waits until every expert has an owner; fails with what is known of the cluster. */
  async covered(): Promise<void> {
    if (await waitFor(COVERED_MS, () => !this.serving.problem())) return;
    const status = JSON.stringify(this.serving.cluster?.status());
    assert.fail(`${this.serving.problem()?.message} after ${COVERED_MS} ms: ${status}`);
  }

  /** Waits until the engine has made that many steps more. */
  async stepped(count: number): Promise<void> {
    const { engine } = this.serving;
    const goal = engine.stats().steps + count;
    // Looked at often: an answer of the fixture is over soon.
    await eventually(`${count} steps`, () => engine.stats().steps >= goal, 1);
  }

  async post(prompt: string, tokens: number): Promise<{ status: number; body: unknown }> {
    const response = await this.#app.request("/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        messages: [{ role: "user", content: prompt }],
        max_tokens: tokens,
        temperature: 0,
        ignore_eos: true,
        return_token_ids: true,
        logprobs: true,
        top_logprobs: 5,
      }),
    });
    return { status: response.status, body: await response.json() };
  }

  async answer(prompt: string, tokens = 24): Promise<Answer> {
    const { status, body } = await this.post(prompt, tokens);
    assert.equal(status, 200, JSON.stringify(body));
    const [choice] = (body as { choices: { token_ids: number[]; logprobs: unknown }[] }).choices;
    return { tokens: choice!.token_ids, logprobs: choice!.logprobs };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.serving.close();
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

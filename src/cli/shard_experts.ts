/**
 * The experts of a shard on whichever backend works: the wasm kernels take over when there is no
 * GPU, and when it is lost, with the same experts loaded anew. Knows no connection.
 */
import type { ExpertComputer } from "@/cluster/expert_server.ts";
import { OperatingError } from "@/errors.ts";
import type { Backend } from "@/kernels/backend.ts";
import { type BackendOptions, openBackend } from "@/kernels/open.ts";
import { ExpertBank, type ExpertPairs } from "@/model/expert_bank.ts";
import type { ExpertPlace, ExpertStore } from "@/model/expert_store.ts";
import type { Logger } from "@/telemetry/log.ts";
import { tunedBackend } from "./gpu_tuning.ts";

export interface ShardExpertsOptions {
  readonly backend: BackendOptions;
  /** Opened for every backend anew; closed with its bank. */
  readonly openStore: () => Promise<ExpertStore>;
  readonly log: Logger;
  /** Default: `openBackend`. */
  readonly open?: (options: BackendOptions) => Promise<Backend>;
}

export class ShardExperts implements ExpertComputer {
  readonly #options: ShardExpertsOptions;
  readonly #held = new Map<string, ExpertPlace>();
  #backend: Backend;
  #bank: ExpertBank;
  #moved: (() => void) | undefined;

  private constructor(options: ShardExpertsOptions, backend: Backend, bank: ExpertBank) {
    this.#options = options;
    this.#backend = backend;
    this.#bank = bank;
  }

  /** Throws OperatingError when not even the wasm kernels can run. */
  static async open(options: ShardExpertsOptions): Promise<ShardExperts> {
    const { log } = options;
    try {
      return await ShardExperts.#openOn(options);
    } catch (error) {
      if (options.backend.name !== "webgpu" || !isUnavailable(error)) throw error;
      log.warn("GPU cannot be used: the wasm kernels take over", { when: "start", error });
      return await ShardExperts.#openOn(onWasm(options));
    }
  }

  static async #openOn(options: ShardExpertsOptions): Promise<ShardExperts> {
    const { backend: wanted, openStore, log, open = openBackend } = options;
    const backend = await open(await tunedBackend(wanted, { log }));
    try {
      return new ShardExperts(
        options,
        backend,
        new ExpertBank(backend, await openStore(), { mayHoldUp: true }),
      );
    } catch (error) {
      await backend.close();
      throw error;
    }
  }

  get width(): number {
    return this.#bank.width;
  }

  /** Of the backend that works now. */
  get backend(): Backend {
    return this.#backend;
  }

  /** Calls `moved` after a move to another backend: this node computes in another class now. */
  onMove(moved: () => void): void {
    this.#moved = moved;
  }

  async load(place: ExpertPlace): Promise<void> {
    await this.#orMove(() => this.#bank.load(place));
    this.#held.set(keyOf(place), place);
  }

  drop(place: ExpertPlace): void {
    this.#held.delete(keyOf(place));
    this.#bank.drop(place);
  }

  /**
   * Rejects when the backend was lost over it, with the experts ready on the next one: the caller
   * must not take a result of another class unasked.
   */
  compute(pairs: ExpertPairs, out: Float32Array): Promise<void> {
    return this.#orMove(() => this.#bank.compute(pairs, out));
  }

  computeHere(pairs: ExpertPairs, out: Float32Array): boolean {
    return this.#bank.computeHere(pairs, out);
  }

  async close(): Promise<void> {
    this.#bank.close();
    await this.#backend.close();
  }

  async #orMove<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (this.#backend.lost) await this.#move(this.#backend.lost);
      throw error;
    }
  }

  async #move(cause: OperatingError): Promise<void> {
    this.#options.log.warn("GPU cannot be used: the wasm kernels take over", {
      ...{ when: "running", experts: this.#held.size, error: cause },
    });
    const next = await ShardExperts.#openOn(onWasm(this.#options));
    for (const place of this.#held.values()) await next.#bank.load(place);
    const [bank, backend] = [this.#bank, this.#backend];
    [this.#bank, this.#backend] = [next.#bank, next.#backend];
    this.#moved?.();
    bank.close();
    await backend.close();
  }
}

function onWasm(options: ShardExpertsOptions): ShardExpertsOptions {
  return { ...options, backend: { ...options.backend, name: "wasm" } };
}

function isUnavailable(error: unknown): boolean {
  return error instanceof OperatingError && error.code === "unavailable";
}

function keyOf({ layer, expert }: ExpertPlace): string {
  return `${layer}/${expert}`;
}

/**
 * Where the time of programs goes, by op: an executor that runs records one by one and keeps time.
 * A diagnosis, not a mode to serve in: every record pays for waking the team and the caller.
 */
import type { Clock } from "@/clock.ts";
import type { Executor } from "./executor.ts";
import type { LinearMemory } from "./memory.ts";
import { nameOfOpcode, RECORD_BYTES, slotsOf } from "./records.ts";

/** Times of one op, of one shape where the op has one. */
export interface OpTime {
  /** e.g. "matmul 2048 to 6144". */
  readonly name: string;
  readonly count: number;
  /** All of them together. */
  readonly ms: number;
  /** Of one: says more than the mean where something else disturbs. */
  readonly medianMs: number;
}

/** Runs that tell what a record costs beside its op. */
const CALIBRATION_RUNS = 200;

/** Collects times; read and reset by whoever opened the backend with it. */
export class OpProfile {
  readonly clock: Clock;
  readonly #times = new Map<string, number[]>();

  constructor(clock: Clock) {
    this.clock = clock;
  }

  add(name: string, ms: number): void {
    const times = this.#times.get(name);
    if (times === undefined) this.#times.set(name, [ms]);
    else times.push(ms);
  }

  /** Times since the last call, the op that took most first. */
  take(): OpTime[] {
    const times = [...this.#times].map(([name, each]): OpTime => {
      const ms = each.reduce((sum, time) => sum + time, 0);
      return { name, count: each.length, ms, medianMs: medianOf(each) };
    });
    this.#times.clear();
    return times.sort((a, b) => b.count * b.medianMs - a.count * a.medianMs);
  }
}

function medianOf(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

/** Runs every record as a program of its own and books its time under its op. */
export class ProfilingExecutor implements Executor {
  readonly threads: number;
  readonly fused: boolean;
  readonly #inner: Executor;
  readonly #memory: LinearMemory;
  readonly #profile: OpProfile;
  /** What an empty program takes: taken off every record. */
  #overheadMs: number | undefined;

  constructor(inner: Executor, memory: LinearMemory, profile: OpProfile) {
    this.threads = inner.threads;
    this.fused = inner.fused;
    this.#inner = inner;
    this.#memory = memory;
    this.#profile = profile;
  }

  async run(program: { readonly address: number; readonly recordCount: number }): Promise<void> {
    const { clock } = this.#profile;
    this.#overheadMs ??= await this.#calibrate(program.address);
    for (let i = 0; i < program.recordCount; i++) {
      const address = program.address + i * RECORD_BYTES;
      const name = this.#nameOf(address);
      const startMs = clock.nowMs();
      await this.#inner.run({ address, recordCount: 1 });
      this.#profile.add(name, Math.max(0, clock.nowMs() - startMs - this.#overheadMs));
    }
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  /** Median time of a program without records. */
  async #calibrate(address: number): Promise<number> {
    const { clock } = this.#profile;
    const times: number[] = [];
    for (let i = 0; i < CALIBRATION_RUNS; i++) {
      const startMs = clock.nowMs();
      await this.#inner.run({ address, recordCount: 0 });
      times.push(clock.nowMs() - startMs);
    }
    return medianOf(times);
  }

  #nameOf(address: number): string {
    const words = this.#memory.words;
    const name = nameOfOpcode(words[address / 4]!);
    const slots = slotsOf(name);
    const value = (slot: string) => {
      const index = slots.indexOf(`${slot}:i`);
      return index < 0 ? undefined : words[address / 4 + 2 * (index + 1)]!;
    };
    const [columns, width] = [value("columns"), value("width")];
    return columns !== undefined && width !== undefined ? `${name} ${columns} to ${width}` : name;
  }
}

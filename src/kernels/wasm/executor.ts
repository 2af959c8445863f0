/** Who runs programs: the calling thread alone. The thread team is in `team.ts`. */
import { OperatingError } from "@/errors.ts";
import { controlWord, faultNames } from "./control.ts";
import type { Kernels } from "./instance.ts";
import type { LinearMemory } from "./memory.ts";

/** One piece of a program. */
export interface Program {
  readonly address: number;
  readonly recordCount: number;
}

export interface RunOptions {
  /** The calling thread may be held up by it. */
  readonly isShort?: boolean;
}

/** Runs whole programs, one at a time, in order of the calls. */
export interface Executor {
  readonly threads: number;
  /** Whether multiply-add rounds once on this machine. */
  readonly fused: boolean;
  run(program: Program, options?: RunOptions): Promise<void>;
  /** Whether the calling thread alone does what the team does, and nothing of the team's runs. */
  readonly isHere?: boolean;
  /** Runs a program before it returns; only while `isHere`. */
  runHere?(program: Program): void;
  close(): Promise<void>;
}

/** The error of a program that did not end: what the kernels refused, or the trap itself. */
export function kernelError(memory: LinearMemory, control: number, cause: unknown): Error {
  const fault = Atomics.load(memory.integers, control / 4 + controlWord.fault);
  const value = Atomics.load(memory.integers, control / 4 + controlWord.faultValue);
  const name = faultNames[fault];
  if (name) return new Error(`Assertion failed: ${name} ${value} is out of range`, { cause });
  return new OperatingError("internal", "Cannot compute: a kernel thread failed", {
    cause,
    detail: String(cause),
  });
}

/** Computes on the calling thread, which is busy meanwhile. */
export class InlineExecutor implements Executor {
  readonly threads = 1;
  readonly isHere = true;
  readonly fused: boolean;
  readonly #kernels: Kernels;
  readonly #memory: LinearMemory;
  readonly #control: number;

  constructor(kernels: Kernels, memory: LinearMemory, control: number) {
    this.fused = Boolean(kernels.madd_is_fused());
    this.#kernels = kernels;
    this.#memory = memory;
    this.#control = control;
  }

  run(program: Program): Promise<void> {
    try {
      this.runHere(program);
      return Promise.resolve();
    } catch (error) {
      return Promise.reject(error);
    }
  }

  runHere({ address, recordCount }: Program): void {
    try {
      this.#kernels.run_alone(this.#control, address, recordCount);
    } catch (error) {
      throw kernelError(this.#memory, this.#control, error);
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

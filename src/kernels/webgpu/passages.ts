/**
 * Dispatches that are kept, with numbers of their own on the device, so that a step of the same
 * shape is encoded from a list.
 */
import { Numbers } from "./numbers.ts";

/** One dispatch, ready to be encoded. */
export interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly numbers: GPUBindGroup;
  readonly workgroups: readonly [number, number];
}

/** Who repeats what; see `Backend.repeat`. */
export interface PassageKey {
  readonly owner: object;
  readonly key: string;
}

interface Passage {
  readonly of: PassageKey;
  readonly dispatches: readonly Dispatch[];
  readonly numbers: Numbers;
  /** What whoever recorded it returned. */
  readonly value: unknown;
}

/** The oldest make room: a context that grows asks for another one every few tokens. */
const PASSAGES_MAX = 8;

export class Passages {
  readonly #gpu: GPUDevice;
  readonly #layout: GPUBindGroupLayout;
  /** Oldest first. */
  #kept: Passage[] = [];
  /** Forgotten while recorded programs may name them. */
  #retired: Numbers[] = [];

  constructor(gpu: GPUDevice, layout: GPUBindGroupLayout) {
    this.#gpu = gpu;
    this.#layout = layout;
  }

  find({ owner, key }: PassageKey): Passage | undefined {
    return this.#kept.find(({ of }) => of.owner === owner && of.key === key);
  }

  /** Keeps dispatches whose numbers are, in order, those of the views. */
  keep(
    of: PassageKey,
    { dispatches, views, value }: {
      dispatches: readonly Dispatch[];
      views: readonly DataView<ArrayBuffer>[];
      value: unknown;
    },
  ): void {
    const slots = dispatches.length;
    if (slots === 0) return;
    const numbers = new Numbers(this.#gpu, { layout: this.#layout, slots });
    const own = dispatches.map((dispatch, slot) => {
      const from = views[slot]!;
      const to = numbers.view(slot);
      new Uint8Array(to.buffer, to.byteOffset, to.byteLength)
        .set(new Uint8Array(from.buffer, from.byteOffset, from.byteLength));
      return { ...dispatch, numbers: numbers.group(slot) };
    });
    numbers.upload(slots);
    this.#kept.push({ of, dispatches: own, numbers, value });
    if (this.#kept.length > PASSAGES_MAX) this.#retired.push(this.#kept.shift()!.numbers);
  }

  /** To be called when a buffer that they name goes. */
  forgetAll(): void {
    this.#retired.push(...this.#kept.map(({ numbers }) => numbers));
    this.#kept = [];
  }

  /** Frees what is forgotten, after everything recorded was submitted. */
  sweep(): void {
    for (const numbers of this.#retired.splice(0)) numbers.destroy();
  }
}

/**
 * The tape: records the program of the model while the backend computes it, and appends the
 * gradients of its ops in reverse. The gradient rules are in `tape_rules.ts`.
 *
 * What the model calls a tensor is a place; the tape gives each write its own memory from a pool
 * and takes it back when nobody needs it. With checkpointing, what a layer computed inside is given
 * back when the layer ends and computed again before its gradients, with the same bits.
 */
import { assert } from "@/assert.ts";
import type { Backend, Matrix } from "@/kernels/backend.ts";
import type { Ops } from "@/kernels/ops.ts";
import type { GradientTarget, TrainingOps } from "@/kernels/training_ops.ts";
import type { Workspace } from "@/model/workspace.ts";
import { type DType, dtypeBytes, elementCount } from "@/tensor/dtype.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import { type Buffer, type BufferPool, typed } from "./buffer_pool.ts";
import type { ParameterSet } from "./parameter_set.ts";
import { tapeRules } from "./tape_rules.ts";
import { type Operand, TapeStorage, TapeValue } from "./tape_value.ts";

/** One op on the tape. */
interface TapeNode {
  readonly outs: readonly TapeValue[];
  readonly forward: () => void;
  /** Missing: no gradient passes. */
  readonly backward: (() => void) | undefined;
  /** Runs its backward whether or not a gradient arrived: a loss. */
  readonly isLoss: boolean;
}

/** Nodes between two borders that the model drew by giving back scratch memory. */
interface Segment {
  readonly first: number;
  end: number;
}

/** A product whose result nobody has asked for yet. */
export interface DeferredProduct {
  readonly input: Operand;
  readonly weight: Matrix;
  /** Computes it after all. */
  readonly run: () => void;
}

/** What the gate of a sparse layer decided. */
export interface Gate {
  /** [R, E] */
  readonly logits: Operand;
  /** i32 [R, k] */
  readonly expertIndex: Operand;
}

export interface TapeOptions {
  readonly backend: Backend;
  readonly pool: BufferPool;
  readonly parameters: ParameterSet;
  /** Compute the inside of layers again instead of keeping it. */
  readonly checkpointing?: boolean;
  /** Products with this weight are delayed, so that the loss can do without them. */
  readonly head?: Matrix;
}

export class Tape {
  readonly backend: Backend;
  readonly training: TrainingOps;
  readonly parameters: ParameterSet;
  readonly head: Matrix | undefined;
  /** The model's ops, recording here. */
  readonly ops: Ops;
  readonly workspace: Workspace;
  readonly #pool: BufferPool;
  readonly #checkpointing: boolean;
  readonly #nodes: TapeNode[] = [];
  readonly #segments: Segment[] = [{ first: 0, end: 0 }];
  /** Gates of the sparse layers, in their order. */
  readonly gates: Gate[] = [];
  readonly #deferred = new Map<TapeStorage, DeferredProduct>();
  /** Places that the model has not given back, oldest first. */
  readonly #places: TapeStorage[] = [];
  /** Replaced by the op that is being recorded, which may still read them. */
  readonly #superseded: TapeValue[] = [];

  constructor(options: TapeOptions) {
    const { backend, pool, parameters } = options;
    assert(backend.training, "a tape on a backend without training ops");
    this.backend = backend;
    this.training = backend.training;
    this.parameters = parameters;
    this.head = options.head;
    this.#pool = pool;
    this.#checkpointing = options.checkpointing ?? false;
    this.ops = tapeRules(this);
    this.workspace = {
      tensor: (dtype, shape) => this.#place(dtype, shape),
      mark: () => this.#mark(),
      release: (mark) => this.#release(mark),
    };
  }

  /** A tensor as input of an op. */
  read(tensor: Tensor): Operand {
    const { storage } = tensor;
    if (!(storage instanceof TapeStorage)) return { tensor, value: undefined };
    const product = this.#deferred.get(storage);
    if (product) {
      this.#deferred.delete(storage);
      product.run();
    }
    this.#expectWhole(tensor, storage);
    const { value } = storage;
    assert(value, `[${tensor.shape}] is read before it is written`);
    // What comes from another segment must be there when this one is computed again.
    if (this.#checkpointing && value.segment !== this.#segments.length - 1) value.isSaved = true;
    return { tensor, value };
  }

  /** A new value at the tensor's place. The old one must have been read before. */
  write(tensor: Tensor, needsGradient: boolean): Operand & { readonly value: TapeValue } {
    const { storage } = tensor;
    assert(storage instanceof TapeStorage, "the tape only writes to its own workspace");
    this.#expectWhole(tensor, storage);
    const old = storage.value;
    const value = new TapeValue({
      sizeBytes: storage.sizeBytes,
      needsGradient,
      segment: this.#segments.length - 1,
      place: storage,
    });
    storage.value = value;
    if (old) this.#superseded.push(old);
    return { tensor, value };
  }

  /** A value that only the tape knows. */
  hidden(dtype: DType, shape: readonly number[], needsGradient = false) {
    const value = new TapeValue({
      sizeBytes: elementCount(shape) * dtypeBytes[dtype],
      needsGradient,
      segment: this.#segments.length - 1,
    });
    const tensor = { dtype, shape, storage: new TapeStorage(value.sizeBytes), byteOffset: 0 };
    return { tensor, value };
  }

  /** Whether anything lies at the tensor's place. */
  isWritten({ storage }: Tensor): boolean {
    return storage instanceof TapeStorage && storage.value !== undefined;
  }

  /** Delays a product whose result may never be asked for. */
  defer(out: Tensor, product: DeferredProduct): void {
    assert(out.storage instanceof TapeStorage, "the tape only writes to its own workspace");
    if (product.input.value) product.input.value.isSaved = true;
    this.#deferred.set(out.storage, product);
  }

  /** A delayed product instead of its result. */
  takeDeferred(out: Tensor): DeferredProduct {
    const { storage } = out;
    const product = storage instanceof TapeStorage ? this.#deferred.get(storage) : undefined;
    assert(product && storage instanceof TapeStorage, "the logits are computed already");
    this.#deferred.delete(storage);
    return product;
  }

  /** Whether an operand takes part in differentiation. */
  isTracked({ value }: Operand): boolean {
    return value?.needsGradient ?? false;
  }

  /**
   * Records an op and lets the backend compute it. `saves`: inputs and outputs that `backward`
   * reads.
   */
  record(
    node: {
      outs: readonly { readonly value: TapeValue }[];
      saves?: readonly Operand[];
      forward: () => void;
      backward?: () => void;
      isLoss?: boolean;
    },
  ): void {
    const outs = node.outs.map(({ value }) => value);
    const isLoss = node.isLoss ?? false;
    const passes = isLoss || outs.some((value) => value.needsGradient);
    const backward = passes ? node.backward : undefined;
    if (backward) { for (const { value } of node.saves ?? []) if (value) value.isSaved = true; }
    const recorded = { outs, forward: node.forward, backward, isLoss };
    this.#nodes.push(recorded);
    this.#compute(recorded);
    for (const value of this.#superseded.splice(0)) if (!value.isSaved) this.#drop(value);
  }

  /** Where an operand's data lies now. */
  data({ tensor, value }: Operand): Tensor {
    if (!value) return tensor;
    assert(value.data, `[${tensor.shape}] was given back`);
    return typed(value.data, tensor.dtype, tensor.shape);
  }

  /** The gradient that arrived at an output. */
  gradient({ tensor, value }: Operand): Tensor {
    assert(value?.gradient, `no gradient of [${tensor.shape}]`);
    return typed(value.gradient.buffer, tensor.dtype, tensor.shape);
  }

  /** Where an op puts, or adds, its gradient of an input; undefined when nobody wants it. */
  target({ tensor, value }: Operand): GradientTarget | undefined {
    if (!value?.needsGradient) return undefined;
    const accumulate = value.gradient !== undefined;
    if (value.gradient === undefined) {
      value.gradient = { buffer: this.#pool.take(value.sizeBytes), owners: 1 };
    } else if (value.gradient.owners > 1) this.#unshare(value);
    return { tensor: typed(value.gradient.buffer, tensor.dtype, tensor.shape), accumulate };
  }

  /**
   * A gradient that an op writes whole. `done` after the op is recorded adds it to what is there,
   * or drops it when nobody wants it.
   */
  whole(operand: Operand): { readonly tensor: Tensor; readonly done: () => void } {
    const { tensor, value } = operand;
    if (value?.needsGradient && !value.gradient) {
      return { tensor: this.target(operand)!.tensor, done: () => {} };
    }
    const buffer = this.#pool.take(elementCount(tensor.shape) * dtypeBytes[tensor.dtype]);
    const input = typed(buffer, tensor.dtype, tensor.shape);
    const done = () => {
      const target = this.target(operand);
      if (target) this.training.accumulate({ input, out: target.tensor });
      this.#pool.give(buffer);
    };
    return { tensor: input, done };
  }

  /** The gradient of `from` is that of `to` too. */
  pass(from: Operand, to: Operand): void {
    const gradient = from.value?.gradient;
    if (!gradient || !to.value?.needsGradient) return;
    if (to.value.gradient === undefined) {
      gradient.owners++;
      to.value.gradient = gradient;
      return;
    }
    const out = this.target(to)!.tensor;
    this.training.accumulate({ input: typed(gradient.buffer, "f32", out.shape), out });
  }

  /** Memory for the time of recording one gradient. */
  scratch<T>(shape: readonly number[], use: (tensor: Tensor) => T): T {
    const buffer = this.#pool.take(elementCount(shape) * dtypeBytes.f32);
    const result = use(typed(buffer, "f32", shape));
    this.#pool.give(buffer);
    return result;
  }

  /** Appends the gradients of everything recorded; afterwards the tape is empty. */
  backward(): void {
    this.#segments.at(-1)!.end = this.#nodes.length;
    const ending = new Map(
      this.#segments.filter(({ first, end }) => end > first).map((part) => [part.end, part]),
    );
    for (let i = this.#nodes.length - 1; i >= 0; i--) {
      const segment = ending.get(i + 1);
      if (segment) this.#recompute(segment);
      const node = this.#nodes[i]!;
      const arrived = node.outs.some((value) => value.gradient !== undefined);
      if (node.backward && (arrived || node.isLoss)) node.backward();
      for (const value of node.outs) this.#finish(value);
    }
    this.discard();
  }

  /** Gives everything back without gradients. */
  discard(): void {
    for (const { outs } of this.#nodes) for (const value of outs) this.#finish(value);
    this.#nodes.length = 0;
    this.#places.length = 0;
    this.gates.length = 0;
    this.#deferred.clear();
    this.#segments.splice(0, this.#segments.length, { first: 0, end: 0 });
  }

  #place(dtype: DType, shape: readonly number[]): Tensor {
    const storage = new TapeStorage(elementCount(shape) * dtypeBytes[dtype]);
    this.#places.push(storage);
    return { dtype, shape, storage, byteOffset: 0 };
  }

  #mark(): number {
    this.#border();
    return this.#places.length;
  }

  #release(mark: number): void {
    for (const place of this.#places.splice(mark)) place.isDead = true;
    const { first } = this.#segments.at(-1)!;
    const nodes = this.#nodes.slice(first);
    const isRecomputed = this.#checkpointing && nodes.some((node) => node.backward);
    for (const value of nodes.flatMap((node) => node.outs)) {
      const isInside = value.place === undefined || value.place.isDead;
      if (!isInside || value.isKept) continue;
      if (isRecomputed || !value.isSaved) this.#drop(value);
    }
    this.#border();
  }

  #border(): void {
    this.#segments.at(-1)!.end = this.#nodes.length;
    this.#segments.push({ first: this.#nodes.length, end: this.#nodes.length });
  }

  #compute(node: TapeNode): void {
    for (const value of node.outs) value.data ??= this.#pool.take(value.sizeBytes);
    node.forward();
  }

  /** Computes what was given back when the segment ended. */
  #recompute({ first, end }: Segment): void {
    if (!this.#checkpointing) return;
    const nodes = this.#nodes.slice(first, end);
    if (!nodes.some((node) => node.backward)) return;
    for (const node of nodes) {
      if (node.outs.some((value) => value.data === undefined)) this.#compute(node);
    }
  }

  /** The value's own gradient, apart from those it shared it with. */
  #unshare(value: TapeValue): void {
    const shared = value.gradient!;
    const buffer = this.#pool.take(value.sizeBytes);
    const width = value.sizeBytes / dtypeBytes.f32;
    const view = (from: Buffer) => typed(from, "f32", [1, width]);
    const source = view(shared.buffer);
    this.backend.ops.copyRows({ source, out: view(buffer), width, rowCount: 1 });
    shared.owners--;
    value.gradient = { buffer, owners: 1 };
  }

  #drop(value: TapeValue): void {
    if (value.data) this.#pool.give(value.data);
    value.data = undefined;
  }

  #finish(value: TapeValue): void {
    this.#drop(value);
    const { gradient } = value;
    if (!gradient) return;
    value.gradient = undefined;
    gradient.owners--;
    if (gradient.owners === 0) this.#pool.give(gradient.buffer);
  }

  #expectWhole(tensor: Tensor, storage: TapeStorage): void {
    const size = elementCount(tensor.shape) * dtypeBytes[tensor.dtype];
    if (tensor.byteOffset === 0 && size === storage.sizeBytes) return;
    assert(false, `a part [${tensor.shape}] of a tensor of ${storage.sizeBytes} bytes on the tape`);
  }
}

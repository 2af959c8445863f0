/**
 * The device as a machine that takes recorded dispatches: pipelines and bind groups are made once
 * and kept, the numbers of all dispatches of a program go up in one write, and a program is one
 * command buffer. Knows kernels and blocks of memory, no ops and no shapes.
 */
import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import { LateFailure } from "@/late_failure.ts";
import type { Device } from "./device.ts";
import {
  type BindingPlan,
  elementBytes,
  type Kernel,
  moduleSource,
  planBindings,
  writeNumbers,
} from "./kernel.ts";
import { Numbers, numbersLayout } from "./numbers.ts";
import { type Dispatch, type PassageKey, Passages } from "./passages.ts";
import type { Block, Range } from "./storage.ts";

/** Workgroups that every adapter takes along one axis. */
const GROUPS_MAX = 65535;
/** Dispatches whose numbers lie in one buffer. */
const CHUNK_SLOTS = 256;
/** Bytes written to the device that may wait for a submission: each is held on the host as well. */
const WAITING_BYTES_MAX = 64 * 1024 * 1024;
/** Below this the device's own "out of memory" check is not waited for. */
const CHECKED_BYTES = 1 << 20;

/** What one dispatch binds and how large it is. */
export interface DispatchArgs {
  readonly tensors: Readonly<Record<string, Range>>;
  readonly numbers?: Readonly<Record<string, number>>;
  /** Workgroups along x and y; `groups` is for kernels that count them linearly. */
  readonly workgroups: readonly [number, number] | { readonly groups: number };
}

/** A kernel compiled for one way of sharing bindings. */
interface Compiled {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  readonly groups: Map<string, GPUBindGroup>;
}

/** Copies to the host that wait to be sent together. */
interface Reading {
  readonly parts: { block: Block; from: number; at: number; size: number }[];
  sizeBytes: number;
  readonly bytes: PromiseWithResolvers<Uint8Array<ArrayBuffer>>;
}

/** A bound part of a block: all of it unless it is larger than one binding. */
interface Window {
  readonly block: Block;
  start: number;
  end: number;
}

export class Machine {
  readonly device: Device;
  readonly bindingBytesMax: number;
  readonly #gpu: GPUDevice;
  readonly #budgetBytes: number;
  readonly #blockIds = new Map<Block, number>();
  readonly #compiled = new Map<string, Compiled>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();
  readonly #numbersLayout: GPUBindGroupLayout;
  /** Of the dispatches that were recorded anew, in order; used again by every program. */
  readonly #numbers: Numbers[] = [];
  readonly #passages: Passages;
  #recorded: Dispatch[] = [];
  /** Slots of `#numbers` that the recorded program takes. */
  #slots = 0;
  /** Submitted so far. */
  #programs = 0;
  /** Rises when a buffer that dispatches name is gone. */
  #layout = 0;
  /** Scratch blocks that were outgrown while recorded dispatches still name them. */
  #retired: Block[] = [];
  readonly #scratch = new Map<string, Block>();
  #nextId = 0;
  #liveBytes = 0;
  /** Written since the last submission. */
  #waitingBytes = 0;
  /** Checks that the device answers later; an error among them ends the backend. */
  #checks: Promise<void>[] = [];
  #reading: Reading | undefined;
  #failure: OperatingError | undefined;
  #closing = false;
  readonly #lost = new LateFailure();

  constructor(device: Device, options: { budgetBytes: number; bindingBytesMax: number }) {
    this.device = device;
    this.#gpu = device.gpu;
    this.#budgetBytes = options.budgetBytes;
    this.bindingBytesMax = Math.min(
      options.bindingBytesMax,
      device.gpu.limits.maxStorageBufferBindingSize,
      device.gpu.limits.maxBufferSize,
    );
    this.#numbersLayout = numbersLayout(device.gpu);
    this.#passages = new Passages(device.gpu, this.#numbersLayout);
    void device.gpu.lost.then(({ message, reason }) => {
      // It says more than the errors that came of it.
      this.#failure = undefined;
      this.#lost.fail(this.#fail(`the GPU was lost (${reason}${message ? `: ${message}` : ""})`));
    });
    device.gpu.addEventListener("uncapturederror", (event) => {
      (event as Event).preventDefault();
      this.#fail((event as GPUUncapturedErrorEvent).error.message);
    });
  }

  /** Bytes of blocks that are held, without the machine's own. */
  get liveBytes(): number {
    return this.#liveBytes;
  }

  /** Why nothing will run any more. */
  get failure(): OperatingError | undefined {
    return this.#failure;
  }

  /** A zero-filled block. Throws OperatingError("unavailable") when it cannot fit. */
  allocate(sizeBytes: number): Block {
    const size = Math.max(16, Math.ceil(sizeBytes / 16) * 16);
    if (size > this.#gpu.limits.maxBufferSize) {
      throw new OperatingError(
        "unavailable",
        `Cannot allocate ${sizeBytes} bytes on the GPU: ` +
          `one buffer holds ${this.#gpu.limits.maxBufferSize}`,
      );
    }
    if (this.#liveBytes + size > this.#budgetBytes) {
      throw new OperatingError(
        "unavailable",
        `Cannot allocate ${sizeBytes} bytes on the GPU: ${this.#liveBytes} of ` +
          `${this.#budgetBytes} are in use`,
      );
    }
    const block = this.#createBlock(size);
    this.#liveBytes += size;
    return block;
  }

  /** A block of the backend itself, which lives as long as it does. */
  allocateOwn(sizeBytes: number): Block {
    return this.#createBlock(Math.max(16, Math.ceil(sizeBytes / 16) * 16));
  }

  free(block: Block): void {
    this.#sendReads();
    assert(this.#blockIds.has(block), "freed twice, or not of this backend");
    this.#liveBytes -= block.sizeBytes;
    this.#destroy(block);
  }

  /**
   * Memory for the op recorded next, of no defined content. Every call with one purpose may give
   * the same bytes: one op's dispatches are its only users.
   */
  scratch(purpose: string, sizeBytes: number): Range {
    const size = Math.ceil(sizeBytes / 16) * 16;
    let block = this.#scratch.get(purpose);
    if (block === undefined || block.sizeBytes < size) {
      if (block) this.#retired.push(block);
      block = this.#createBlock(Math.max(1 << 12, size));
      this.#scratch.set(purpose, block);
    }
    return { block, byteOffset: 0, sizeBytes };
  }

  /** Appends one dispatch; nothing happens when it has no workgroups. */
  record(kernel: Kernel, args: DispatchArgs): void {
    this.#sendReads();
    const workgroups = "groups" in args.workgroups
      ? linearGroups(args.workgroups.groups)
      : args.workgroups;
    if (workgroups[0] === 0 || workgroups[1] === 0) return;
    assert(workgroups[0] <= GROUPS_MAX && workgroups[1] <= GROUPS_MAX, `${workgroups} workgroups`);
    const names = Object.keys(kernel.tensors);
    const ranges = names.map((name) => args.tensors[name]!);
    const windows = this.#windows(ranges);
    const plan = planBindings(kernel, windows);
    const compiled = this.#compile(kernel, plan);
    const group = this.#bindGroup(compiled, [...new Set(windows)]);
    const offsets = ranges.map(({ byteOffset }, i) => {
      const bytes = elementBytes[kernel.tensors[names[i]!]!.type];
      const offset = byteOffset - windows[i]!.start;
      assert(offset % bytes === 0, `${kernel.name}: ${names[i]} begins at byte ${offset}`);
      return offset / bytes;
    });
    const slot = this.#slots++;
    const chunk = this.#numbers[Math.floor(slot / CHUNK_SLOTS)] ??= this.#createNumbers();
    writeNumbers(kernel, { offsets, numbers: args.numbers ?? {} }, chunk.view(slot % CHUNK_SLOTS));
    const numbers = chunk.group(slot % CHUNK_SLOTS);
    this.#recorded.push({ pipeline: compiled.pipeline, group, numbers, workgroups });
  }

  /** Whether one dispatch can bind whole blocks of these ranges, and so many more. */
  fits(ranges: readonly Range[], more = 0): boolean {
    const blocks = new Set(ranges.map(({ block }) => block));
    return blocks.size + more <= this.#gpu.limits.maxStorageBuffersPerShaderStage &&
      ranges.every(({ block }) => block.sizeBytes <= this.bindingBytesMax);
  }

  /** See `Backend.repeat`. */
  async repeat<T>(of: PassageKey, record: () => Promise<T>): Promise<T> {
    this.#sendReads();
    const kept = this.#passages.find(of);
    if (kept) {
      for (const dispatch of kept.dispatches) this.#recorded.push(dispatch);
      return kept.value as T;
    }
    const [start, firstSlot] = [this.#recorded.length, this.#slots];
    const [programs, layout] = [this.#programs, this.#layout];
    const value = await record();
    const isWhole = programs === this.#programs && layout === this.#layout;
    const dispatches = this.#recorded.slice(start);
    if (!isWhole || dispatches.length !== this.#slots - firstSlot) return value;
    const views = dispatches.map((_, i) => {
      const slot = firstSlot + i;
      return this.#numbers[Math.floor(slot / CHUNK_SLOTS)]!.view(slot % CHUNK_SLOTS);
    });
    this.#passages.keep(of, { dispatches, views, value });
    return value;
  }

  /** Hands the recorded program to the device, which runs programs in order. */
  submit(copies: (encoder: GPUCommandEncoder) => void = () => {}): void {
    this.#sendReads();
    this.#programs++;
    if (this.#failure) {
      this.#recorded = [];
      this.#slots = 0;
      return;
    }
    const encoder = this.#gpu.createCommandEncoder();
    this.#encode(encoder);
    copies(encoder);
    this.#gpu.queue.submit([encoder.finish()]);
    this.#waitingBytes = 0;
    for (const block of this.#retired.splice(0)) this.#destroy(block);
    this.#passages.sweep();
  }

  /** Rejects when the device refused something, or is lost. */
  async check(): Promise<void> {
    if (this.#checks.length > 0) await Promise.all(this.#checks.splice(0));
    if (this.#failure) throw this.#failure;
  }

  /** Copies host bytes in, before everything submitted later. Whole words only. */
  write(block: Block, byteOffset: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.#sendReads();
    if (bytes.byteLength === 0) return;
    this.#gpu.queue.writeBuffer(block.buffer, byteOffset, bytes);
    this.#waitingBytes += bytes.byteLength;
    if (this.#waitingBytes < WAITING_BYTES_MAX) return;
    this.#gpu.queue.submit([]);
    this.#waitingBytes = 0;
  }

  /**
   * Submits, and copies ranges out; they may begin and end at any byte. Reads with nothing between
   * them make one copy, as each takes the device's thread a while.
   */
  async read(ranges: readonly Range[]): Promise<Uint8Array<ArrayBuffer>[]> {
    if (this.#failure) throw this.#failure;
    if (this.#reading === undefined) {
      this.#reading = { parts: [], sizeBytes: 0, bytes: Promise.withResolvers() };
      queueMicrotask(() => this.#sendReads());
    }
    const reading = this.#reading;
    const places = ranges.map(({ block, byteOffset, sizeBytes }) => {
      const from = byteOffset - byteOffset % 4;
      const size = Math.ceil((byteOffset + sizeBytes - from) / 4) * 4;
      const at = reading.sizeBytes;
      reading.parts.push({ block, from, at, size });
      reading.sizeBytes += size;
      return at + byteOffset % 4;
    });
    const bytes = await reading.bytes.promise;
    return ranges.map(({ sizeBytes }, i) => bytes.slice(places[i]!, places[i]! + sizeBytes));
  }

  /** Submits what is recorded and the copies that wait, if any do. */
  #sendReads(): void {
    const reading = this.#reading;
    if (reading === undefined) return;
    this.#reading = undefined;
    this.#copyOut(reading).then(reading.bytes.resolve, reading.bytes.reject);
  }

  async #copyOut({ parts, sizeBytes }: Reading): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#failure) throw this.#failure;
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    const staging = this.#gpu.createBuffer({ size: Math.max(4, sizeBytes), usage });
    this.submit((encoder) => {
      for (const { block, from, at, size } of parts) {
        if (size > 0) encoder.copyBufferToBuffer(block.buffer, from, staging, at, size);
      }
    });
    return await this.#arrival(staging);
  }

  /** What is copied into a staging buffer, which goes afterwards. */
  async #arrival(staging: GPUBuffer): Promise<Uint8Array<ArrayBuffer>> {
    try {
      await this.#lost.unlessFirst(staging.mapAsync(GPUMapMode.READ));
      await this.check();
      return new Uint8Array(staging.getMappedRange()).slice();
    } catch (cause) {
      throw this.#failure ?? this.#fail(cause instanceof Error ? cause.message : String(cause));
    } finally {
      staging.destroy();
    }
  }

  /** Frees everything; the device is gone afterwards. */
  async close(): Promise<void> {
    this.#sendReads();
    this.#closing = true;
    this.#recorded = [];
    if (!this.#failure) await this.#gpu.queue.onSubmittedWorkDone().catch(() => {});
    this.#gpu.destroy();
  }

  #fail(message: string): OperatingError {
    const text = this.#closing ? "the backend is closed" : message;
    this.#failure ??= new OperatingError("unavailable", `Cannot compute on the GPU: ${text}`);
    return this.#failure;
  }

  #createBlock(sizeBytes: number): Block {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const isChecked = sizeBytes >= CHECKED_BYTES;
    if (isChecked) this.#gpu.pushErrorScope("out-of-memory");
    const buffer = this.#gpu.createBuffer({ size: sizeBytes, usage });
    if (isChecked) {
      this.#expectNoError(`a buffer of ${sizeBytes} bytes does not fit into its memory`);
    }
    const block = { buffer, sizeBytes };
    this.#blockIds.set(block, this.#nextId++);
    return block;
  }

  /** Ends the innermost error scope. */
  #expectNoError(message?: string): void {
    this.#checks.push(
      this.#gpu.popErrorScope().then((error) => {
        if (error) this.#fail(message ?? error.message);
      }, () => {}),
    );
  }

  #destroy(block: Block): void {
    this.#layout++;
    this.#passages.forgetAll();
    this.#blockIds.delete(block);
    block.buffer.destroy();
    for (const { groups } of this.#compiled.values()) groups.clear();
  }

  #createNumbers(): Numbers {
    return new Numbers(this.#gpu, { layout: this.#numbersLayout, slots: CHUNK_SLOTS });
  }

  #encode(encoder: GPUCommandEncoder): void {
    const program = this.#recorded;
    if (program.length === 0) return;
    const slots = this.#slots;
    this.#recorded = [];
    this.#slots = 0;
    for (let first = 0; first < slots; first += CHUNK_SLOTS) {
      this.#numbers[first / CHUNK_SLOTS]!.upload(Math.min(CHUNK_SLOTS, slots - first));
    }
    const pass = encoder.beginComputePass();
    let pipeline: GPUComputePipeline | undefined;
    let group: GPUBindGroup | undefined;
    for (const dispatch of program) {
      if (dispatch.pipeline !== pipeline) pass.setPipeline(pipeline = dispatch.pipeline);
      if (dispatch.group !== group) pass.setBindGroup(0, group = dispatch.group);
      pass.setBindGroup(1, dispatch.numbers);
      pass.dispatchWorkgroups(dispatch.workgroups[0], dispatch.workgroups[1]);
    }
    pass.end();
  }

  /** One window per range; ranges in one window share the object. */
  #windows(ranges: readonly Range[]): Window[] {
    const made: Window[] = [];
    const windows = ranges.map((range): Window => {
      const { block } = range;
      if (block.sizeBytes <= this.bindingBytesMax) {
        const whole = made.find((window) => window.block === block);
        if (whole) return whole;
        made.push({ block, start: 0, end: block.sizeBytes });
        return made.at(-1)!;
      }
      return this.#windowOf(range, made);
    });
    // Windows that grew into each other are one.
    return windows.map((window) => made.find((other) => overlaps(window, other)) ?? window);
  }

  #windowOf({ block, byteOffset, sizeBytes }: Range, made: Window[]): Window {
    const end = Math.min(block.sizeBytes, Math.ceil((byteOffset + sizeBytes) / 256) * 256);
    const wanted = { block, start: byteOffset - byteOffset % 256, end };
    const known = made.find((window) => overlaps(window, wanted));
    if (known === undefined) {
      made.push(wanted);
      return wanted;
    }
    known.start = Math.min(known.start, wanted.start);
    known.end = Math.max(known.end, wanted.end);
    assert(known.end - known.start <= this.bindingBytesMax, "tensors of one op exceed a binding");
    return known;
  }

  #compile(kernel: Kernel, plan: BindingPlan): Compiled {
    const key = `${kernel.name}/${plan.binding}/${plan.written}`;
    const known = this.#compiled.get(key);
    if (known) return known;
    const layout = this.#layoutOf(plan.written);
    const code = moduleSource(kernel, plan, this.device.dialect);
    this.#gpu.pushErrorScope("validation");
    const module = this.#gpu.createShaderModule({ label: key, code });
    const pipeline = this.#gpu.createComputePipeline({
      label: key,
      layout: this.#gpu.createPipelineLayout({
        bindGroupLayouts: [layout, this.#numbersLayout],
      }),
      compute: { module, entryPoint: "main" },
    });
    this.#expectNoError();
    const compiled = { pipeline, layout, groups: new Map() };
    this.#compiled.set(key, compiled);
    return compiled;
  }

  #layoutOf(written: readonly boolean[]): GPUBindGroupLayout {
    const key = String(written);
    let layout = this.#layouts.get(key);
    if (layout === undefined) {
      layout = this.#gpu.createBindGroupLayout({
        entries: written.map((isWritten, binding) => ({
          binding,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: isWritten ? "storage" : "read-only-storage" },
        })),
      });
      this.#layouts.set(key, layout);
    }
    return layout;
  }

  #bindGroup({ layout, groups }: Compiled, windows: readonly Window[]): GPUBindGroup {
    let key = "";
    for (const { block, start, end } of windows) {
      key += `${this.#blockIds.get(block)}:${start}:${end},`;
    }
    let group = groups.get(key);
    if (group === undefined) {
      group = this.#gpu.createBindGroup({
        layout,
        entries: windows.map(({ block, start, end }, binding) => ({
          binding,
          resource: { buffer: block.buffer, offset: start, size: end - start },
        })),
      });
      groups.set(key, group);
    }
    return group;
  }
}

function overlaps(a: Window, b: Window): boolean {
  return a.block === b.block && a.start < b.end && b.start < a.end;
}

/** Workgroups in rows of at most what one axis takes; the kernel ends those beyond the last. */
function linearGroups(groups: number): [number, number] {
  if (groups === 0) return [0, 0];
  const x = Math.min(groups, GROUPS_MAX);
  return [x, Math.ceil(groups / x)];
}

/**
 * Memory, recorded commands and their execution: what all ops of a backend share. Programs run one
 * after the other; memory that a recorded op may still use is freed after its program.
 */
import { assert } from "@/assert.ts";
import { type DType, dtypeBytes, elementCount } from "@/tensor/dtype.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import { CommandBuffer, type CommandChunk, type Passage } from "./commands.ts";
import type { Executor, RunOptions } from "./executor.ts";
import { storageOf, WasmStorage } from "./layout.ts";
import type { Arena } from "./memory.ts";
import type { RecordName, Slots } from "./records.ts";

/** A range that is free once a program has run. */
interface Garbage {
  readonly address: number;
  readonly sizeBytes: number;
}

/** Records that are kept, and what whoever recorded them returned. */
interface KeptPassage {
  readonly owner: object;
  readonly key: string;
  readonly passage: Passage;
  readonly value: unknown;
}

/** The oldest make room: a context that grows asks for another one every few tokens. */
const PASSAGES_MAX = 8;

export class Machine {
  readonly arena: Arena;
  readonly executor: Executor;
  readonly #commands: CommandBuffer;
  /** Settles when everything flushed so far has run. */
  #tail: Promise<void> = Promise.resolve();
  #programsInFlight = 0;
  /** Freed while recorded ops may need it. */
  #garbage: Garbage[] = [];
  #scratch: Garbage = { address: 0, sizeBytes: 0 };
  #liveBytes = 0;
  #closed = false;
  /** Oldest first. */
  #passages: KeptPassage[] = [];
  /** Rises when an address that records name may have become another's. */
  #layout = 0;

  constructor(arena: Arena, executor: Executor) {
    this.arena = arena;
    this.executor = executor;
    this.#commands = new CommandBuffer(arena);
  }

  /** Bytes of live storages. */
  get liveBytes(): number {
    return this.#liveBytes;
  }

  /** A zero-filled storage. */
  allocate(sizeBytes: number): WasmStorage {
    assert(!this.#closed, "allocation on a closed backend");
    const address = this.arena.allocate(sizeBytes);
    this.#liveBytes += sizeBytes;
    return new WasmStorage({ owner: this, sizeBytes, address });
  }

  free(storage: WasmStorage): void {
    storage.freed = true;
    this.#liveBytes -= storage.sizeBytes;
    this.#forgetPassages();
    this.#discard(storage);
  }

  /** Address of a tensor's first element, after checking its type and bounds. */
  address(tensor: Tensor, dtype: DType = "f32"): number {
    const storage = storageOf(tensor, this);
    const width = dtypeBytes[dtype];
    const end = tensor.byteOffset + elementCount(tensor.shape) * width;
    if (tensor.dtype !== dtype || tensor.byteOffset % width !== 0 || end > storage.sizeBytes) {
      const text = `${tensor.dtype} [${tensor.shape}] at ${tensor.byteOffset}`;
      assert(false, `${text} as ${dtype} in ${storage.sizeBytes} bytes`);
    }
    return storage.address + tensor.byteOffset;
  }

  /** Address of working memory that one record may use while it runs. */
  scratch(sizeBytes: number): number {
    if (sizeBytes > this.#scratch.sizeBytes) {
      const address = this.arena.allocate(sizeBytes, { fill: false });
      this.#forgetPassages();
      if (this.#scratch.sizeBytes > 0) this.#discard(this.#scratch);
      this.#scratch = { address, sizeBytes };
    }
    return this.#scratch.address;
  }

  record<Name extends RecordName>(name: Name, slots: Slots<Name>): void {
    assert(!this.#closed, `${name} on a closed backend`);
    this.#commands.append(name, slots);
  }

  /** See `Backend.repeat`. */
  async repeat<T>(
    { owner, key }: { owner: object; key: string },
    record: () => Promise<T>,
  ): Promise<T> {
    const kept = this.#passages.find((other) => other.owner === owner && other.key === key);
    if (kept !== undefined) {
      return this.#commands.repeat(kept.passage) ? kept.value as T : await record();
    }
    const layout = this.#layout;
    const start = this.#commands.beginPassage();
    const value = await record();
    if (layout !== this.#layout) return value;
    const passage = this.#commands.endPassage(start);
    if (passage === undefined) return value;
    this.#passages.push({ owner, key, passage, value });
    if (this.#passages.length > PASSAGES_MAX) {
      this.#commands.forget(this.#passages.shift()!.passage);
    }
    return value;
  }

  /** Runs what is recorded; resolves when it and all that was flushed before has run. */
  flush(options: RunOptions = {}): Promise<void> {
    if (this.#commands.isEmpty) return this.#tail;
    const program = this.#commands.take();
    const garbage = this.#garbage;
    this.#garbage = [];
    this.#programsInFlight++;
    this.#tail = this.#tail.then(() => this.#execute(program, { garbage, options }));
    return this.#tail;
  }

  /** Whether `flushHere` may be called: nothing that was flushed before still runs. */
  get isHere(): boolean {
    return this.#programsInFlight === 0 && (this.executor.isHere ?? false);
  }

  /** Runs what is recorded before it returns, on the calling thread. */
  flushHere(): void {
    assert(this.isHere, "flush on the calling thread beside the team");
    const program = this.#commands.take();
    for (const chunk of program) this.executor.runHere!(chunk);
    this.#end(program, this.#garbage.splice(0));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#tail.catch(() => {}); // whoever flushed has the error
    await this.executor.close();
  }

  async #execute(
    program: readonly CommandChunk[],
    { garbage, options }: { garbage: readonly Garbage[]; options: RunOptions },
  ): Promise<void> {
    for (const chunk of program) await this.executor.run(chunk, options);
    this.#programsInFlight--;
    this.#end(program, garbage);
  }

  /** A program has run. */
  #end(program: readonly CommandChunk[], garbage: readonly Garbage[]): void {
    this.#commands.recycle(program);
    for (const { address, sizeBytes } of garbage) this.arena.free(address, sizeBytes);
    if (this.#programsInFlight > 0 || !this.#commands.isEmpty) return;
    // Freed after the last flush, with nothing recorded since.
    for (const { address, sizeBytes } of this.#garbage) this.arena.free(address, sizeBytes);
    this.#garbage = [];
  }

  #forgetPassages(): void {
    this.#layout++;
    for (const { passage } of this.#passages) this.#commands.forget(passage);
    this.#passages = [];
  }

  #discard({ address, sizeBytes }: Garbage): void {
    if (this.#programsInFlight === 0 && this.#commands.isEmpty) {
      this.arena.free(address, sizeBytes);
    } else {
      this.#garbage.push({ address, sizeBytes });
    }
  }
}

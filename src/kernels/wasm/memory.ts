/**
 * Linear memory of one backend and the arena inside it: first fit over pages that this side grows,
 * 64-byte alignment, neighbouring free ranges joined. The kernels' own small heap grows the same
 * memory independently; the arena only uses the pages that it got itself.
 *
 * An address is a number, exact up to 2^53, in memories of either address width: no bit operation
 * may touch one, as those cut to 32 bits.
 */
import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";

/** Unit of growth of every memory. */
export const PAGE_BYTES = 65536;
const ALIGNMENT = 64;
/** Growth comes in steps, so that small tensors do not grow the memory one by one: at least this … */
const GROWTH_PAGES = 256;
/** … or this part of the memory. Pages that nobody touched take no room. */
const GROWTH_FRACTION = 1 / 16;

export interface MemorySize {
  readonly initialPages: number;
  readonly maximumPages: number;
}

/** A shared memory with 32-bit addresses. Throws RangeError when there is no room for it. */
export function narrowMemory({ initialPages, maximumPages }: MemorySize): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: initialPages, maximum: maximumPages, shared: true });
}

/** A shared memory with 64-bit addresses; TypeError where the engine has none. */
export function wideMemory({ initialPages, maximumPages }: MemorySize): WebAssembly.Memory {
  const descriptor = {
    address: "i64",
    initial: BigInt(initialPages),
    maximum: BigInt(maximumPages),
    shared: true,
  };
  // The type library knows 32-bit memories only.
  return new WebAssembly.Memory(descriptor as unknown as WebAssembly.MemoryDescriptor);
}

/** Typed views of a growing memory; read them anew after anything that may have grown it. */
export class LinearMemory {
  readonly memory: WebAssembly.Memory;
  /** Whether addresses have 64 bits. */
  readonly isWide: boolean;
  /** What the memory was declared to grow to. */
  readonly maximumBytes: number;
  #buffer: ArrayBufferLike;
  #bytes: Uint8Array;
  #words: Uint32Array;
  #integers: Int32Array;
  #floats: Float32Array;

  constructor(
    memory: WebAssembly.Memory,
    options: { isWide?: boolean; maximumPages?: number } = {},
  ) {
    this.memory = memory;
    this.isWide = options.isWide ?? false;
    this.maximumBytes = (options.maximumPages ?? limits.kernelMemoryPagesMax) * PAGE_BYTES;
    this.#buffer = memory.buffer;
    this.#bytes = new Uint8Array(this.#buffer);
    this.#words = new Uint32Array(this.#buffer);
    this.#integers = new Int32Array(this.#buffer);
    this.#floats = new Float32Array(this.#buffer);
  }

  get bytes(): Uint8Array {
    this.#refresh();
    return this.#bytes;
  }

  get words(): Uint32Array {
    this.#refresh();
    return this.#words;
  }

  get integers(): Int32Array {
    this.#refresh();
    return this.#integers;
  }

  get floats(): Float32Array {
    this.#refresh();
    return this.#floats;
  }

  get sizeBytes(): number {
    return this.memory.buffer.byteLength;
  }

  /** The address of `pages` new zero pages, or undefined when the memory is at its bound. */
  grow(pages: number): number | undefined {
    // Pages are counted in the address type, which the type library takes for a number.
    const count = this.isWide ? BigInt(pages) as unknown as number : pages;
    try {
      return Number(this.memory.grow(count)) * PAGE_BYTES;
    } catch (error) {
      if (error instanceof RangeError) return undefined;
      throw error;
    }
  }

  #refresh(): void {
    const buffer = this.memory.buffer;
    if (buffer === this.#buffer && buffer.byteLength === this.#bytes.byteLength) return;
    this.#buffer = buffer;
    this.#bytes = new Uint8Array(buffer);
    this.#words = new Uint32Array(buffer);
    this.#integers = new Int32Array(buffer);
    this.#floats = new Float32Array(buffer);
  }
}

interface Range {
  start: number;
  end: number;
}

/** Allocates ranges of a linear memory. Sizes are bytes, addresses byte positions. */
export class Arena {
  readonly memory: LinearMemory;
  /** Ascending, never touching. */
  readonly #free: Range[] = [];
  /** Memory from here on was never handed out, so it is still zero. */
  #cleanStart = 0;
  #usedBytes = 0;

  constructor(memory: LinearMemory) {
    this.memory = memory;
  }

  /** Bytes handed out and not yet freed, with alignment. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /**
   * An aligned range of at least `sizeBytes`, zero-filled unless `fill` is false. Throws
   * OperatingError("unavailable") when the memory cannot grow any more.
   */
  allocate(sizeBytes: number, options: { fill?: boolean } = {}): number {
    const size = alignUp(Math.max(sizeBytes, 1));
    let index = this.#free.findIndex((range) => range.end - range.start >= size);
    if (index < 0) {
      this.#grow(size);
      index = this.#free.length - 1;
    }
    const range = this.#free[index]!;
    const start = range.start;
    range.start += size;
    if (range.start === range.end) this.#free.splice(index, 1);
    if (options.fill !== false) {
      this.memory.bytes.fill(0, start, Math.max(start, Math.min(start + size, this.#cleanStart)));
    }
    this.#cleanStart = Math.max(this.#cleanStart, start + size);
    this.#usedBytes += size;
    return start;
  }

  /** Returns a range; `sizeBytes` is what it was allocated with. */
  free(address: number, sizeBytes: number): void {
    const size = alignUp(Math.max(sizeBytes, 1));
    this.#usedBytes -= size;
    this.#insert({ start: address, end: address + size });
  }

  /** Adds a range of at least `size` bytes at the end of the free list. */
  #grow(size: number): void {
    const last = this.#free.at(-1);
    const end = this.memory.sizeBytes;
    const atEnd = last !== undefined && last.end === end ? last.end - last.start : 0;
    const needed = Math.ceil((size - atEnd) / PAGE_BYTES);
    const step = Math.max(GROWTH_PAGES, Math.ceil(end * GROWTH_FRACTION / PAGE_BYTES));
    const start = this.#growPages(Math.max(needed, step)) ?? this.#growPages(needed) ??
      // The kernels' heap may have grown since the end was read.
      this.#growPages(Math.ceil(size / PAGE_BYTES));
    const range = this.#free.at(-1);
    if (start === undefined || range === undefined || range.end - range.start < size) {
      const mib = (bytes: number) => Math.round(bytes / 2 ** 20);
      throw new OperatingError(
        "unavailable",
        `Cannot allocate ${size} bytes: kernel memory of ${mib(end)} MiB cannot grow further ` +
          `(${mib(this.#usedBytes)} MiB in use, bound ${mib(this.memory.maximumBytes)} MiB)`,
      );
    }
  }

  /** The address of the new pages, or undefined when the memory is at its bound. */
  #growPages(pages: number): number | undefined {
    const start = this.memory.grow(pages);
    if (start !== undefined) this.#insert({ start, end: start + pages * PAGE_BYTES });
    return start;
  }

  #insert(range: Range): void {
    let next = this.#free.findIndex((other) => other.start >= range.start);
    if (next < 0) next = this.#free.length;
    const before = this.#free[next - 1];
    const after = this.#free[next];
    assert(!before || before.end <= range.start, `range ${range.start} is already free`);
    assert(!after || range.end <= after.start, `range ${range.start} is already free`);
    if (before?.end === range.start) {
      before.end = range.end;
      if (after?.start === before.end) {
        before.end = after.end;
        this.#free.splice(next, 1);
      }
    } else if (after?.start === range.end) {
      after.start = range.start;
    } else {
      this.#free.splice(next, 0, range);
    }
  }
}

function alignUp(size: number): number {
  return Math.ceil(size / ALIGNMENT) * ALIGNMENT;
}

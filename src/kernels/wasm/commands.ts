/**
 * The command buffer: records that wait for a flush, in chunks of arena memory that are used again
 * after their program ran.
 */
import { RECORD_BYTES, type RecordName, type Slots, writeRecord } from "./records.ts";
import type { Arena } from "./memory.ts";

/** Records of one chunk: more than a decode step of a large model. */
const CHUNK_RECORDS = 1024;

/** A part of a program. */
export interface CommandChunk {
  readonly address: number;
  recordCount: number;
}

export class CommandBuffer {
  readonly #arena: Arena;
  readonly #idle: CommandChunk[] = [];
  #recorded: CommandChunk[] = [];

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  get isEmpty(): boolean {
    return this.#recorded.length === 0;
  }

  append<Name extends RecordName>(name: Name, slots: Slots<Name>): void {
    let chunk = this.#recorded.at(-1);
    if (!chunk || chunk.recordCount === CHUNK_RECORDS) {
      chunk = this.#idle.pop() ?? this.#newChunk();
      this.#recorded.push(chunk);
    }
    const address = chunk.address + chunk.recordCount * RECORD_BYTES;
    writeRecord(this.#arena.memory, address, { name, slots });
    chunk.recordCount++;
  }

  /** Everything recorded so far, in order; give it back with `recycle`. */
  take(): readonly CommandChunk[] {
    const program = this.#recorded;
    this.#recorded = [];
    return program;
  }

  recycle(program: readonly CommandChunk[]): void {
    for (const chunk of program) {
      chunk.recordCount = 0;
      this.#idle.push(chunk);
    }
  }

  #newChunk(): CommandChunk {
    const address = this.#arena.allocate(CHUNK_RECORDS * RECORD_BYTES, { fill: false });
    return { address, recordCount: 0 };
  }
}

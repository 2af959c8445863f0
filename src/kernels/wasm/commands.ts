/**
 * The command buffer: records that wait for a flush, in chunks of arena memory that are used again
 * after their program ran. A passage stays in its chunks, and later programs take it as it stands.
 */
import { RECORD_BYTES, type RecordName, type Slots, writeRecord } from "./records.ts";
import type { Arena } from "./memory.ts";

/** Records of one chunk: more than a decode step of a large model. */
const CHUNK_RECORDS = 1024;

/** A part of a program. */
export interface CommandChunk {
  readonly address: number;
  recordCount: number;
  /** Records at its start that are part of a passage. */
  keptCount: number;
  /** Recorded, or part of a program that has not run yet. */
  isTaken: boolean;
}

/** Consecutive records that later programs can take. */
export type Passage = readonly CommandChunk[];

/** Where a passage began. */
export interface PassageStart {
  readonly chunk: number;
  readonly programs: number;
}

export class CommandBuffer {
  readonly #arena: Arena;
  readonly #idle: CommandChunk[] = [];
  #recorded: CommandChunk[] = [];
  /** Taken so far. */
  #programs = 0;

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  get isEmpty(): boolean {
    return this.#recorded.length === 0;
  }

  append<Name extends RecordName>(name: Name, slots: Slots<Name>): void {
    let chunk = this.#recorded.at(-1);
    if (!chunk || chunk.recordCount === CHUNK_RECORDS) chunk = this.#begin();
    const address = chunk.address + chunk.recordCount * RECORD_BYTES;
    writeRecord(this.#arena.memory, address, { name, slots });
    chunk.recordCount++;
  }

  /** Everything recorded so far, in order; give it back with `recycle`. */
  take(): readonly CommandChunk[] {
    const program = this.#recorded;
    this.#recorded = [];
    this.#programs++;
    return program;
  }

  recycle(program: readonly CommandChunk[]): void {
    for (const chunk of program) {
      chunk.isTaken = false;
      chunk.recordCount = chunk.keptCount;
      if (chunk.keptCount === 0) this.#idle.push(chunk);
    }
  }

  beginPassage(): PassageStart {
    this.#begin();
    return { chunk: this.#recorded.length - 1, programs: this.#programs };
  }

  /** Keeps what was recorded since its start; undefined when a flush came between. */
  endPassage({ chunk, programs }: PassageStart): Passage | undefined {
    if (programs !== this.#programs) return undefined;
    const passage = this.#recorded.slice(chunk);
    for (const part of passage) part.keptCount = part.recordCount;
    return passage;
  }

  /** Records a passage again; false while a program with it has not run. */
  repeat(passage: Passage): boolean {
    if (passage.some(({ isTaken }) => isTaken)) return false;
    for (const chunk of passage) {
      chunk.isTaken = true;
      this.#recorded.push(chunk);
    }
    return true;
  }

  /** Its chunks are free for other records, once they have run. */
  forget(passage: Passage): void {
    for (const chunk of passage) {
      chunk.keptCount = 0;
      if (chunk.isTaken) continue;
      chunk.recordCount = 0;
      this.#idle.push(chunk);
    }
  }

  /** An empty chunk at the end of what is recorded. */
  #begin(): CommandChunk {
    const chunk = this.#idle.pop() ?? this.#newChunk();
    chunk.isTaken = true;
    this.#recorded.push(chunk);
    return chunk;
  }

  #newChunk(): CommandChunk {
    const address = this.#arena.allocate(CHUNK_RECORDS * RECORD_BYTES, { fill: false });
    return { address, recordCount: 0, keptCount: 0, isTaken: false };
  }
}

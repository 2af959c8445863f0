/**
 * Which tiles have been encoded, under their pixel hash: bookkeeping of slots only, the runner
 * holds the visual tokens. A slot is pinned while a running sequence still needs its tile; others
 * are given up least recently used first.
 */
import { assert } from "@/assert.ts";

export class EncoderCache {
  readonly slots: number;
  /** Encoded tiles that nobody needs now, least recently used first. */
  readonly #unpinned = new Map<string, number>();
  readonly #pinned = new Map<string, { readonly slot: number; pins: number }>();
  /** Slots that hold nothing; filled lazily, so an idle engine owns no memory for them. */
  readonly #free: number[] = [];
  #firstUnused = 0;
  #evictions = 0;

  constructor(slots: number) {
    assert(slots >= 1, `${slots} slots for encoded tiles`);
    this.slots = slots;
  }

  get size(): number {
    return this.#unpinned.size + this.#pinned.size;
  }

  /** Encoded tiles given up for others so far. */
  get evictions(): number {
    return this.#evictions;
  }

  get pinnedCount(): number {
    return this.#pinned.size;
  }

  has(hash: string): boolean {
    return this.#pinned.has(hash) || this.#unpinned.has(hash);
  }

  /** Pins a tile, new or known, and returns its slot; undefined when every slot is pinned. */
  acquire(hash: string): number | undefined {
    const pinned = this.#pinned.get(hash);
    if (pinned !== undefined) {
      pinned.pins += 1;
      return pinned.slot;
    }
    const slot = this.#unpinned.get(hash) ?? this.#emptySlot();
    if (slot === undefined) return undefined;
    this.#unpinned.delete(hash);
    this.#pinned.set(hash, { slot, pins: 1 });
    return slot;
  }

  /** Drops one pin; at zero the tile stays cached until its slot is needed. */
  release(hash: string): void {
    const pinned = this.#pinned.get(hash);
    assert(pinned !== undefined, `tile ${hash} is released but not pinned`);
    pinned.pins -= 1;
    if (pinned.pins > 0) return;
    this.#pinned.delete(hash);
    this.#unpinned.set(hash, pinned.slot);
  }

  /** Forgets an unpinned tile whose encoding failed. */
  drop(hash: string): void {
    assert(!this.#pinned.has(hash), `tile ${hash} is dropped while pinned`);
    const slot = this.#unpinned.get(hash);
    if (slot === undefined) return;
    this.#unpinned.delete(hash);
    this.#free.push(slot);
  }

  /** Asserts that pins equal `expected` (hash -> pins) and that no slot is used twice. */
  checkIntegrity(expected: ReadonlyMap<string, number>): void {
    assert(this.#pinned.size === expected.size, "a tile is pinned by nobody, or not pinned");
    for (const [hash, { pins }] of this.#pinned) {
      assert(pins === expected.get(hash), `tile ${hash} has ${pins} pins`);
    }
    const used = [...this.#unpinned.values(), ...this.#free];
    for (const { slot } of this.#pinned.values()) used.push(slot);
    assert(new Set(used).size === used.length, "a slot is used twice");
    assert(used.length === this.#firstUnused && used.length <= this.slots, "a slot is lost");
  }

  #emptySlot(): number | undefined {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#firstUnused < this.slots) return this.#firstUnused++;
    const [oldest] = this.#unpinned;
    if (oldest === undefined) return undefined;
    this.#unpinned.delete(oldest[0]);
    this.#evictions += 1;
    return oldest[1];
  }
}

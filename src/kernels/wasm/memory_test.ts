import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { seededRandom } from "@/random.ts";
import { Arena, LinearMemory, narrowMemory, wideMemory } from "./memory.ts";

type Kind = "unshared" | "narrow" | "wide";
const kinds: readonly Kind[] = ["unshared", "narrow", "wide"];

function newArena(maximumPages = 1024, kind: Kind = "unshared"): Arena {
  const size = { initialPages: 1, maximumPages };
  const memory = kind === "wide"
    ? wideMemory(size)
    : kind === "narrow"
    ? narrowMemory(size)
    : new WebAssembly.Memory({ initial: 1, maximum: maximumPages });
  return new Arena(new LinearMemory(memory, { isWide: kind === "wide", maximumPages }));
}

Deno.test("Arena hands out aligned zero ranges that never overlap, whatever the order", () => {
  for (const [index, kind] of kinds.entries()) {
    const seed = index + 1;
    const random = seededRandom(seed);
    const arena = newArena(1024, kind);
    const live: { address: number; size: number; mark: number }[] = [];
    for (let step = 0; step < 200; step++) {
      if (random() < 0.45 && live.length > 0) {
        const [range] = live.splice(Math.floor(random() * live.length), 1);
        const { address, size, mark } = range!;
        const bytes = arena.memory.bytes.subarray(address, address + size);
        assert.ok(bytes.every((byte) => byte === mark), `seed ${seed} step ${step}`);
        arena.free(address, size);
        continue;
      }
      const size = Math.floor(random() ** 3 * 30_000);
      const address = arena.allocate(size);
      const bytes = arena.memory.bytes.subarray(address, address + size);
      assert.equal(address % 64, 0);
      assert.ok(bytes.every((byte) => byte === 0), `seed ${seed} step ${step}`);
      const mark = 1 + step % 255;
      bytes.fill(mark);
      live.push({ address, size, mark });
    }
    for (const { address, size } of live) arena.free(address, size);
    assert.equal(arena.usedBytes, 0);
  }
});

Deno.test("Arena joins neighbouring free ranges", () => {
  const arena = newArena();
  const addresses = [0, 1, 2, 3].map(() => arena.allocate(4 * 2 ** 20));
  const before = arena.memory.memory.buffer.byteLength;
  for (const place of [0, 2, 1, 3]) arena.free(addresses[place]!, 4 * 2 ** 20);
  assert.equal(arena.allocate(16 * 2 ** 20), addresses[0]);
  assert.equal(arena.memory.memory.buffer.byteLength, before);
});

Deno.test("Arena refuses with the size when the memory is at its bound, and stays usable", () => {
  for (const kind of kinds) {
    const arena = newArena(64, kind);
    const first = arena.allocate(2 ** 20);
    assert.throws(() => arena.allocate(4 * 2 ** 20), (error) => {
      assert.ok(error instanceof OperatingError);
      assert.equal(error.code, "unavailable");
      assert.match(
        error.message,
        /^Cannot allocate 4194304 bytes: kernel memory of \d+ MiB cannot grow further \(1 MiB in use, bound 4 MiB\)$/,
      );
      return true;
    });
    arena.allocate(2 ** 20);
    arena.free(first, 2 ** 20);
    assert.equal(arena.allocate(2 ** 20), first);
  }
});

Deno.test("Arena uses its own pages alone when another side grows the memory too", () => {
  const arena = newArena();
  const first = arena.allocate(16 * 2 ** 20);
  const foreign = arena.memory.memory.grow(3) * 65536;
  const second = arena.allocate(16 * 2 ** 20);
  assert.ok(first + 16 * 2 ** 20 <= foreign);
  assert.ok(second >= foreign + 3 * 65536);
});

Deno.test("LinearMemory shows what was written before the memory grew", () => {
  const memory = new LinearMemory(new WebAssembly.Memory({ initial: 1 }));
  memory.words[7] = 42;
  memory.memory.grow(1);
  assert.equal(memory.words[7], 42);
  assert.equal(memory.bytes.length, 2 * 65536);
  assert.equal(memory.floats.length, memory.integers.length);
});

Deno.test("Arena hands out and reads back addresses beyond 32 bits", () => {
  const arena = newArena(5 * 16_384, "wide");
  // Pages that nobody touches take no room.
  const low = arena.allocate(4.5 * 2 ** 30, { fill: false });
  const high = arena.allocate(256);
  assert.ok(high > 2 ** 32 && high >= low + 4.5 * 2 ** 30);
  arena.memory.words[high / 4] = 0x01020304;
  arena.memory.floats[high / 4 + 1] = 1.5;
  assert.deepEqual([...arena.memory.bytes.subarray(high, high + 4)], [4, 3, 2, 1]);
  assert.equal(arena.memory.floats[high / 4 + 1], 1.5);
  assert.equal(arena.memory.words[(high % 2 ** 32) / 4], 0, "nothing lands 4 GiB lower");
  arena.free(high, 256);
  assert.equal(arena.allocate(256), high);
  assert.equal(arena.memory.words[high / 4], 0, "zero again");
});

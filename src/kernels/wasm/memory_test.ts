import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { seededRandom } from "@/random.ts";
import { Arena, LinearMemory } from "./memory.ts";

function newArena(maximum = 1024, shared = false): Arena {
  return new Arena(new LinearMemory(new WebAssembly.Memory({ initial: 1, maximum, shared })));
}

Deno.test("Arena hands out aligned zero ranges that never overlap, whatever the order", () => {
  for (let seed = 1; seed <= 3; seed++) {
    const random = seededRandom(seed);
    const arena = newArena();
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
  for (const shared of [false, true]) {
    const arena = newArena(64, shared);
    const first = arena.allocate(2 ** 20);
    assert.throws(() => arena.allocate(4 * 2 ** 20), (error) => {
      assert.ok(error instanceof OperatingError);
      assert.equal(error.code, "unavailable");
      assert.match(error.message, /^Cannot allocate 4194304 bytes: kernel memory of \d+ MiB/);
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

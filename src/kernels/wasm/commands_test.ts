import assert from "node:assert/strict";
import type { Tensor } from "@/tensor/tensor.ts";
import type { Backend } from "../backend.ts";
import { openWasmBackend } from "./backend.ts";

/** out = left + right, and how often the records were made. */
class Sum {
  made = 0;
  readonly left: Tensor;
  readonly right: Tensor;
  readonly out: Tensor;
  readonly #backend: Backend;

  constructor(backend: Backend) {
    this.#backend = backend;
    const tensor = () => backend.allocate("f32", [1, 4]);
    [this.left, this.right, this.out] = [tensor(), tensor(), tensor()];
  }

  record(key = "sum"): Promise<string> {
    return this.#backend.repeat!({ owner: this, key }, () => {
      this.made++;
      this.#backend.ops.add({ left: this.left, right: this.right, out: this.out });
      return Promise.resolve(`made ${this.made}`);
    });
  }

  async run(values: readonly number[]): Promise<number[]> {
    this.#backend.write(this.left, Float32Array.from(values));
    return [...await this.#backend.read(this.out)];
  }
}

async function withSum(work: (sum: Sum, backend: Backend) => Promise<void>): Promise<void> {
  const backend = await openWasmBackend({ threads: 2 });
  try {
    const sum = new Sum(backend);
    backend.write(sum.right, Float32Array.of(10, 20, 30, 40));
    await work(sum, backend);
  } finally {
    await backend.close();
  }
}

Deno.test("repeat() runs kept records on what the tensors hold now", () =>
  withSum(async (sum) => {
    assert.equal(await sum.record(), "made 1");
    assert.deepEqual(await sum.run([1, 2, 3, 4]), [11, 22, 33, 44]);
    assert.equal(await sum.record(), "made 1");
    assert.deepEqual(await sum.run([5, 6, 7, 8]), [15, 26, 37, 48]);
    assert.equal(sum.made, 1);
  }));

Deno.test("repeat() keeps the order of what is recorded before and after it", () =>
  withSum(async (sum, backend) => {
    for (let turn = 0; turn < 3; turn++) {
      // Doubled before, and again after.
      backend.ops.add({ left: sum.right, right: sum.right, out: sum.right });
      await sum.record();
      backend.ops.add({ left: sum.out, right: sum.out, out: sum.out });
      const doubled = 2 ** (turn + 1);
      const expected = [10, 20, 30, 40].map((right, i) => 2 * (right * doubled + i));
      assert.deepEqual(await sum.run([0, 1, 2, 3]), expected);
    }
    assert.equal(sum.made, 1);
  }));

Deno.test("repeat() twice in one program records the second anew", () =>
  withSum(async (sum, backend) => {
    await sum.record();
    await backend.flush();
    await sum.record();
    backend.ops.copyRows({ source: sum.out, out: sum.left, width: 4, rowCount: 1 });
    await sum.record();
    assert.deepEqual(await sum.run([1, 1, 1, 1]), [21, 41, 61, 81]);
    assert.equal(sum.made, 2);
  }));

Deno.test("repeat() records anew when a storage was freed since", () =>
  withSum(async (sum, backend) => {
    await sum.record();
    await backend.flush();
    backend.free(backend.allocate("f32", [8]));
    assert.equal(await sum.record(), "made 2");
    assert.deepEqual(await sum.run([1, 1, 1, 1]), [11, 21, 31, 41]);
  }));

Deno.test("repeat() forgets the oldest of many keys and stays right", () =>
  withSum(async (sum) => {
    for (let turn = 0; turn < 40; turn++) {
      await sum.record(`sum of ${turn % 11}`);
      assert.deepEqual(await sum.run([turn, 0, 0, 0]), [turn + 10, 20, 30, 40]);
    }
  }));

Deno.test("repeat() that fails leaves nothing kept", () =>
  withSum(async (sum, backend) => {
    const failing = backend.repeat!({ owner: sum, key: "sum" }, () => {
      backend.ops.add({ left: sum.right, right: sum.right, out: sum.right });
      return Promise.reject(new Error("no"));
    });
    await assert.rejects(failing, /no/);
    await backend.flush();
    assert.equal(await sum.record(), "made 1");
    assert.deepEqual(await sum.run([0, 0, 0, 0]), [20, 40, 60, 80]);
  }));

/** Greedy tokens of scored rows: the largest logit, in blocks of any size, on both backends. */
import assert from "node:assert/strict";
import type { Backend } from "@/kernels/backend.ts";
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import { openWasmBackend } from "@/kernels/wasm/backend.ts";
import { seededRandom } from "@/random.ts";
import { BufferPool } from "./buffer_pool.ts";
import { greedyAnswers } from "./greedy_accuracy.ts";
import { recordGreedy } from "./greedy_tokens.ts";
import { BatchTensors } from "./packed_forward.ts";
import { ParameterSet } from "./parameter_set.ts";
import { writeStore } from "./parameter_values.ts";
import { Tape } from "./tape.ts";

const [ROWS, WIDTH, VOCABULARY] = [7, 12, 37];

async function greedy(backend: Backend, logitsBytesMax: number): Promise<number[]> {
  const random = seededRandom(3);
  const values = (count: number) => Float32Array.from({ length: count }, () => random() - 0.5);
  const [inputs, weights] = [values(ROWS * WIDTH), values(VOCABULARY * WIDTH)];
  const weight = backend.createMatrix({ format: "f32", rows: VOCABULARY, columns: WIDTH });
  await writeStore(backend, { kind: "matrix", matrix: weight }, weights);
  const tensors = new BatchTensors(backend);
  const pool = new BufferPool(backend);
  const tape = new Tape({ backend, pool, parameters: new ParameterSet([]) });
  const input = { ...tensors.f32(inputs), shape: [ROWS, WIDTH] };
  const ids = tensors.i32(new Int32Array(ROWS));
  recordGreedy(tape, { input, weight, ids, tensors, logitsBytesMax });
  const found = [...await backend.read(ids) as Int32Array];
  const expected = Array.from({ length: ROWS }, (_, row) => {
    const logits = Array.from({ length: VOCABULARY }, (_, token) => {
      let sum = 0;
      for (let k = 0; k < WIDTH; k++) {
        sum += inputs[row * WIDTH + k]! * weights[token * WIDTH + k]!;
      }
      return sum;
    });
    return logits.indexOf(Math.max(...logits));
  });
  assert.deepEqual(found, expected);
  tensors.free();
  pool.close();
  backend.free(weight);
  return found;
}

Deno.test("recordGreedy() picks the largest logit of each row, in blocks of any size", async () => {
  for (
    const backend of [
      openReferenceBackend(),
      await openWasmBackend({ threads: 1, training: true }),
    ]
  ) {
    const bytes = 4 * VOCABULARY;
    for (const limit of [1, bytes, 3 * bytes, 1 << 20]) await greedy(backend, limit);
    await backend.close();
  }
});

Deno.test("greedyAnswers() grades each sample by all of its tokens", () => {
  const batch = {
    starts: Int32Array.of(0, 4, 6, 9),
    scoredRows: Int32Array.of(1, 2, 4, 7),
    targets: Int32Array.of(10, 11, 12, 13),
  };
  const right = (...tokens: number[]) =>
    greedyAnswers(batch, Int32Array.from(tokens)).map(({ right }) => right);
  assert.deepEqual(right(10, 11, 12, 13), [true, true, true]);
  assert.deepEqual(right(10, 9, 12, 9), [false, true, false]);
});

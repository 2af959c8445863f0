import assert from "node:assert/strict";
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import { GrowingTensor } from "./growing_tensor.ts";

Deno.test("GrowingTensor.write() writes values that are new, and only those", async () => {
  const backend = openReferenceBackend();
  const write = backend.write.bind(backend);
  let writes = 0;
  backend.write = (...args) => {
    writes++;
    write(...args);
  };
  const tensor = new GrowingTensor(backend, "i32");
  const check = async (values: number[], expectedWrites: number) => {
    const view = tensor.write(Int32Array.from(values));
    assert.deepEqual([...await backend.read(view)], values);
    assert.equal(writes, expectedWrites);
  };
  await check([1, 2, 3], 1);
  await check([1, 2, 3], 1);
  await check([1, 2], 2);
  await check([1, 2, 3], 3);
  // Who takes a view may write there.
  write(tensor.view([3]), Int32Array.of(7, 8, 9));
  await check([1, 2, 3], 4);
  await check(Array.from({ length: 200 }, (_, i) => i), 5);
  await check(Array.from({ length: 200 }, (_, i) => i), 5);
  tensor.close();
  await check([1, 2, 3], 6);
  tensor.close();
  await backend.close();
});

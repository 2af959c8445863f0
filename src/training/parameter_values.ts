/** Weights, gradients and moments as plain row-major values, in and out of the backend. */
import { assert } from "@/assert.ts";
import type { Backend, Matrix } from "@/kernels/backend.ts";
import { PANEL_ROWS, panelCount } from "@/kernels/matrix_layout.ts";
import { elementCount } from "@/tensor/dtype.ts";
import type { ParameterStore } from "./parameter_set.ts";
import { floatRows } from "./training_source.ts";

/** [experts * rows, columns], or the elements of a tensor. Waits for recorded ops. */
export async function readStore(backend: Backend, store: ParameterStore): Promise<Float32Array> {
  if (store.kind === "tensor") return await backend.read(store.tensor) as Float32Array;
  await backend.flush();
  const { experts, rows, columns } = store.matrix;
  const values = new Float32Array(experts * rows * columns);
  for (let expert = 0; expert < experts; expert++) {
    const out = values.subarray(expert * rows * columns, (expert + 1) * rows * columns);
    await readRows(backend, store.matrix, expert, out);
  }
  return values;
}

/** Rows of one expert, from panels of eight rows (see `matrix_layout.ts`). */
async function readRows(
  backend: Backend,
  matrix: Matrix,
  expert: number,
  out: Float32Array,
): Promise<void> {
  const { rows, columns } = matrix;
  const all = { expert, firstPanel: 0, panelCount: panelCount(matrix) };
  const panels = new Float32Array((await backend.readPanels(matrix, all)).buffer);
  for (let row = 0; row < rows; row++) {
    const lane = row % PANEL_ROWS;
    const from = (row - lane) * columns + lane;
    for (let k = 0; k < columns; k++) out[row * columns + k] = panels[from + k * PANEL_ROWS]!;
  }
}

/** The inverse of `readStore`; not recorded, so never while ops that use the store wait. */
export async function writeStore(
  backend: Backend,
  store: ParameterStore,
  values: Float32Array,
): Promise<void> {
  if (store.kind === "tensor") {
    assert(values.length === elementCount(store.tensor.shape), `${values.length} values`);
    backend.write(store.tensor, values);
    return;
  }
  const { experts, rows, columns } = store.matrix;
  assert(values.length === experts * rows * columns, `${values.length} values`);
  for (let expert = 0; expert < experts; expert++) {
    const part = values.subarray(expert * rows * columns, (expert + 1) * rows * columns);
    await backend.packRows(store.matrix, { expert, ...floatRows(part, 0, rows) });
  }
}

/** Logits of a short prompt on the reference backend, for tests that compare loaded models. */
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import type { Precision } from "@/weights/precision.ts";
import type { FileFolder } from "@/weights/source.ts";
import { loadModel } from "./load.ts";

/** [4, vocabulary] */
export async function shortPromptLogits(
  folder: FileFolder,
  options: Partial<Precision> & { synthetic?: boolean } = {},
): Promise<Float32Array> {
  const backend = openReferenceBackend();
  const { model } = await loadModel({ folder, backend, ...options });
  const positions = Int32Array.of(0, 1, 2, 3);
  const cache = backend.createKvCache({
    format: "f32",
    pages: 1,
    pageTokens: 16,
    ...model.kvShape,
  });
  const logits = await model.forward({
    tokenIds: Int32Array.of(5, 9, 400, 77),
    positions,
    slots: positions,
    rowSequence: new Int32Array(4),
    pageTable: Int32Array.of(0),
    sequences: 1,
    splices: [],
    logitRows: positions,
  }, cache);
  return await backend.read(logits) as Float32Array;
}

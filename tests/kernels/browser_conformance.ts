/** The case table in a page: entry of the bundle that `browser_conformance_test.ts` opens. */
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import { openWebGpuBackend } from "@/kernels/webgpu/backend.ts";
import { openDevice } from "@/kernels/webgpu/device.ts";
import { runCase } from "./case.ts";
import { kernelCases } from "./cases.ts";
import { differencesFromReference, differencesInBits } from "./comparison.ts";
import { differencesOfLayer, layerCases } from "./decoder_layer.ts";

/** How far the page is, and at the end what it found. */
export interface ConformanceProgress {
  /** Cases that have run. */
  done: number;
  result?: {
    readonly adapter: string;
    readonly features: readonly string[];
    readonly cases: number;
    readonly failures: readonly string[];
  };
  error?: string;
}

/** Rows of the largest case that is worth its time in a page. */
const CASE_ROWS_MAX = 20;

/** All cases on WebGPU: those that differ from the reference, or without optional features. */
async function run(progress: ConformanceProgress): Promise<ConformanceProgress["result"]> {
  const reference = openReferenceBackend();
  const backend = await openWebGpuBackend();
  const portable = await openWebGpuBackend({ portable: true });
  // WGSL may take subnormal numbers for zero, and this adapter does.
  const cases = kernelCases.filter(({ rows = 0, name }) =>
    rows <= CASE_ROWS_MAX && !name.endsWith(", tiny")
  );
  const failures: string[] = [];
  for (const kernelCase of cases) {
    const label = `${kernelCase.op} ${kernelCase.name}`;
    try {
      const outputs = await runCase(backend, kernelCase);
      const expected = await runCase(reference, kernelCase);
      const found = differencesFromReference(outputs, expected, kernelCase.expected());
      failures.push(...found.map((text) => `${label}: ${text}`));
      if (kernelCase.op === "attention" || kernelCase.op === "segmentAttention") {
        const names = differencesInBits(await runCase(portable, kernelCase), outputs);
        failures.push(...names.map((name) => `${label}: ${name} without subgroups`));
      }
    } catch (error) {
      failures.push(`${label}: ${error instanceof Error ? error.message : error}`);
    }
    progress.done++;
  }
  for (const options of layerCases) {
    failures.push(...await differencesOfLayer(backend, options));
    progress.done++;
  }
  const adapter = backend.description.reason;
  const device = await openDevice(navigator.gpu);
  const features = [...device.features];
  device.gpu.destroy();
  await backend.close();
  await portable.close();
  return { adapter, features, cases: cases.length, failures };
}

const progress: ConformanceProgress = { done: 0 };
run(progress).then(
  (result) => Object.assign(progress, { result }),
  (error) => progress.error = error instanceof Error ? error.stack ?? error.message : String(error),
);
Object.assign(globalThis, { conformance: progress });

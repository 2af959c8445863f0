/** The case table in a page: entry of the bundle that `browser_conformance_test.ts` opens. */
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import { openWebGpuBackend } from "@/kernels/webgpu/backend.ts";
import { openDevice } from "@/kernels/webgpu/device.ts";
import { runCase } from "./case.ts";
import { kernelCases } from "./cases.ts";
import { differencesFromReference } from "./comparison.ts";

/** What a page that loaded the bundle can be asked. */
export interface BrowserConformance {
  /** Runs all cases on WebGPU; returns those that differ from the reference. */
  run(): Promise<{ adapter: string; features: string[]; cases: number; failures: string[] }>;
}

/** Rows of the largest case that is worth its time in a page. */
const CASE_ROWS_MAX = 20;

async function run(): ReturnType<BrowserConformance["run"]> {
  const reference = openReferenceBackend();
  const backend = await openWebGpuBackend();
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
    } catch (error) {
      failures.push(`${label}: ${error instanceof Error ? error.message : error}`);
    }
  }
  const adapter = backend.description.reason;
  const device = await openDevice(navigator.gpu);
  const features = [...device.features];
  device.gpu.destroy();
  await backend.close();
  return { adapter, features, cases: cases.length, failures };
}

Object.assign(globalThis, { conformance: { run } satisfies BrowserConformance });

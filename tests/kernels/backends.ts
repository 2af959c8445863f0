/** The backends that the conformance suite runs on, and why one may be missing on a machine. */
import type { Backend } from "@/kernels/backend.ts";
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import { openWasmBackend } from "@/kernels/wasm/backend.ts";
import { obstacle, probeFeatures, type Variant } from "@/kernels/wasm/features.ts";
import { type Probe, probePath } from "../skip.ts";

export interface BackendEntry {
  readonly label: string;
  /** What must be there; a test on a backend that lacks something is skipped with the reason. */
  readonly needs: readonly Probe[];
  /** `description.variant` and `description.threads` of the opened backend. */
  readonly variant: string;
  readonly threads: number;
  open(): Promise<Backend>;
}

export const referenceEntry: BackendEntry = {
  label: "reference",
  needs: [],
  variant: "typescript",
  threads: 1,
  open: () => Promise.resolve(openReferenceBackend()),
};

const features = probeFeatures();

async function wasmEntry(
  variant: Variant,
  described: string,
  threads: number,
): Promise<BackendEntry> {
  const tool = `wasm ${variant}`;
  const module = new URL(`../../wasm/compute-${variant}/compute_bg.wasm`, import.meta.url);
  const missing = obstacle(variant, features) || undefined;
  return {
    label: `wasm ${variant} x${threads}`,
    needs: [{ tool, missing }, await probePath(tool, module)],
    variant: described,
    threads,
    open: () => openWasmBackend(variant === "simd" ? { variant } : { variant, threads }),
  };
}

/** Fast backends, compared with the reference. Three threads split rows unevenly. */
export const fastEntries: readonly BackendEntry[] = [
  await wasmEntry("relaxed-threads", "relaxed-simd+threads", 1),
  await wasmEntry("relaxed-threads", "relaxed-simd+threads", 3),
  await wasmEntry("simd-threads", "simd128+threads", 2),
  await wasmEntry("simd", "simd128", 1),
];

export const backendEntries: readonly BackendEntry[] = [referenceEntry, ...fastEntries];

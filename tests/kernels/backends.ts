/** The backends that the conformance suite runs on, and why one may be missing on a machine. */
import assert from "node:assert/strict";
import type { Backend } from "@/kernels/backend.ts";
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import { openWasmBackend } from "@/kernels/wasm/backend.ts";
import { obstacle, probeFeatures } from "@/kernels/wasm/features.ts";
import { type Variant, WIDE_VARIANT } from "@/kernels/wasm/variants.ts";
import { WasmStorage } from "@/kernels/wasm/layout.ts";
import { LinearMemory, wideMemory } from "@/kernels/wasm/memory.ts";
import { adapterObstacle } from "@/kernels/webgpu/device.ts";
import { openWebGpuBackend } from "@/kernels/webgpu/backend.ts";
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

const FOUR_GIB = 2 ** 32;

/** Address space beyond 4 GiB. Pages that nobody touches take no memory, so little is needed. */
export const highMemory: Probe = {
  tool: "memory",
  missing: obstacle(WIDE_VARIANT, features) ||
    (reachesBeyond(FOUR_GIB) ? undefined : "the system refuses a reservation of 4.5 GiB"),
};

function reachesBeyond(bytes: number): boolean {
  const size = { initialPages: 1, maximumPages: 2 * bytes / 65536 };
  const memory = new LinearMemory(wideMemory(size), { isWide: true });
  return memory.grow((bytes + 2 ** 29) / 65536) !== undefined;
}

/** Takes all memory below `border`, which holds nothing but the backend's own blocks, untouched. */
export function fillMemory(backend: Backend, border: number): void {
  const take = (sizeBytes: number): number => {
    const { storage } = backend.allocate("u8", [sizeBytes]);
    assert.ok(storage instanceof WasmStorage);
    return storage.address;
  };
  // Too large for what the start left free, so it begins where the rest follows.
  const first = 64 * 2 ** 20;
  const start = take(first);
  assert.equal(take(border - start - first), start + first);
  for (const sizeBytes of [2 ** 16, 64]) while (take(sizeBytes) < border);
}

/** The 64-bit variant with everything that a case allocates above 4 GiB. */
async function highEntry(threads: number): Promise<BackendEntry> {
  const entry = await wasmEntry(WIDE_VARIANT, "relaxed-simd+threads+memory64", threads);
  return {
    ...entry,
    label: `${entry.label} above 4 GiB`,
    needs: [...entry.needs, highMemory],
    open: async () => {
      const backend = await entry.open();
      fillMemory(backend, FOUR_GIB);
      return backend;
    },
  };
}

/** An adapter of WebGPU; a processor that plays one will do. */
export const webGpu: Probe = { tool: "webgpu", missing: await adapterObstacle(navigator.gpu) };

/** With shared attention and what the adapter offers (f16 in Deno's software one, subgroups in Chromium's), and without. */
const webGpuEntries = [false, true].map((portable): BackendEntry => ({
  label: portable ? "webgpu portable" : "webgpu",
  needs: [webGpu],
  variant: "wgsl",
  threads: 1,
  open: async () =>
    openWebGpuBackend({
      portable,
      sharedAttention: !portable,
      packer: await openWasmBackend({ variant: "simd" }),
    }),
}));

/** Fast backends, compared with the reference. Three threads split rows unevenly. */
export const fastEntries: readonly BackendEntry[] = [
  await wasmEntry("relaxed-threads", "relaxed-simd+threads", 1),
  await wasmEntry("relaxed-threads", "relaxed-simd+threads", 3),
  await wasmEntry("simd-threads", "simd128+threads", 2),
  await wasmEntry("simd", "simd128", 1),
  await highEntry(2),
  ...webGpuEntries,
];

export const backendEntries: readonly BackendEntry[] = [referenceEntry, ...fastEntries];

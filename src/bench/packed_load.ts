/** The time of loading a packed folder, which is packed once and kept. */
import { join } from "node:path";
import type { Clock } from "@/clock.ts";
import { openBackend } from "@/kernels/open.ts";
import type { WasmBackendOptions } from "@/kernels/wasm/backend.ts";
import { loadModel } from "@/model/load.ts";
import { packModel } from "@/model/packing.ts";
import { type Precision, precisionLabel } from "@/weights/precision.ts";
import { diskFolder } from "@/weights/disk_folder.ts";

export interface PackedLoadOptions {
  /** Folder of the shape's config.json. */
  readonly folder: string;
  /** Name of the shape in the cache. */
  readonly shape: string;
  readonly precision: Precision;
  readonly cacheFolder: string;
  readonly backend: WasmBackendOptions;
  readonly clock: Clock;
}

/** Seconds from nothing to a model on a backend; packs drawn weights first where that is missing. */
export async function packedLoadSeconds(options: PackedLoadOptions): Promise<number> {
  const { shape, precision, clock } = options;
  const packed = join(options.cacheFolder, `packed-${shape}-${precisionLabel(precision)}`);
  await pack(packed, options);
  const startMs = clock.nowMs();
  const backend = await openBackend({ name: "wasm", ...options.backend });
  try {
    await loadModel({
      folder: diskFolder(packed),
      ...precision,
      backend,
      bounds: { contextTokens: 1024, stepTiles: 1 },
    });
    return (clock.nowMs() - startMs) / 1000;
  } finally {
    await backend.close();
  }
}

/** Does nothing when the folder is there and whole. */
async function pack(out: string, options: PackedLoadOptions): Promise<void> {
  await Deno.mkdir(out, { recursive: true });
  const backend = await openBackend({ name: "wasm", ...options.backend });
  try {
    const { precision } = options;
    await packModel({
      folder: diskFolder(options.folder),
      out,
      backend,
      precision,
      synthetic: true,
    });
  } finally {
    await backend.close();
  }
}

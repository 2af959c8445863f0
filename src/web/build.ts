/**
 * Builds `dist/`: the module that pages import and the scripts of its workers. `--check` compares
 * instead of writing and fails when the committed files are stale. Run as `deno task build:web`.
 */
import { buildOrCheck, type Bundle, bundle } from "./bundle.ts";

export const distFolder = new URL("./dist/", import.meta.url);

/** The files of `dist/` by name, as the present sources give them. */
export function webBundle(): Promise<Bundle> {
  const source = (path: string) => new URL(path, import.meta.url);
  return bundle({
    flotilla: source("./flotilla.ts"),
    engine_worker: source("./engine_worker.ts"),
    kernel_worker: source("../kernels/wasm/worker.ts"),
    codec_worker: source("../media/codec_worker.ts"),
  });
}

if (import.meta.main) await buildOrCheck(distFolder, await webBundle(), "deno task build:web");

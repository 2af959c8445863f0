/**
 * A program that packs a checkpoint and kills itself, as `kill -9` does, once a share of it is done:
 * MODEL OUT SHARE. A share above one lets it finish.
 */
import { openBackend } from "@/kernels/open.ts";
import { packModel } from "@/model/packing.ts";
import { precisionOf } from "@/weights/precision.ts";
import { diskFolder } from "@/weights/disk_folder.ts";

const [model, out, share] = Deno.args as [string, string, string];
const backend = await openBackend({ name: "wasm", threads: 1 });
const { partsKept } = await packModel({
  folder: diskFolder(model),
  out,
  backend,
  precision: precisionOf({ quantisation: "q4" }),
  partBytes: 100_000,
  onProgress: (done, total) => {
    if (done >= Number(share) * total) Deno.kill(Deno.pid, "SIGKILL");
  },
});
Deno.stdout.writeSync(new TextEncoder().encode(String(partsKept)));
await backend.close();

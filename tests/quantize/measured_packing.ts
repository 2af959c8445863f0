/** A program that packs drawn weights and prints by how many bytes its memory grew: MODEL OUT. */
import { openBackend } from "@/kernels/open.ts";
import { packModel } from "@/model/packing.ts";
import { precisionOf } from "@/weights/precision.ts";
import { diskFolder } from "@/weights/disk_folder.ts";

const [model, out] = Deno.args as [string, string];
const backend = await openBackend({ name: "wasm", threads: 2 });
const residentBytes = () => Deno.memoryUsage().rss;
const before = residentBytes();
const seen = [before];
const { manifest } = await packModel({
  folder: diskFolder(model),
  out,
  backend,
  precision: precisionOf({ quantisation: "q4" }),
  synthetic: true,
  onProgress: () => seen.push(residentBytes()),
});
await backend.close();
const result = { grownBytes: Math.max(...seen) - before, parameters: manifest.parameters };
Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(result)));

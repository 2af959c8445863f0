/** Owns finding and compiling the codec module. Instances of it belong to `codec_sandbox.ts`. */

/** Reads and compiles `wasm/codec/codec_bg.wasm`, from disk or over HTTP. */
export async function compileCodecModule(): Promise<WebAssembly.Module> {
  const url = new URL("../../wasm/codec/codec_bg.wasm", import.meta.url);
  if (url.protocol === "file:") return await WebAssembly.compile(await Deno.readFile(url));
  const response = await fetch(url);
  if (!response.ok) throw new Error(`Cannot load ${url}: status ${response.status}`);
  return await WebAssembly.compile(await response.arrayBuffer());
}

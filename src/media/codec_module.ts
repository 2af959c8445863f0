/** Owns finding and compiling the codec module. Instances of it belong to `codec_sandbox.ts`. */

/** Where the module lies beside these sources. */
const defaultUrl = new URL("../../wasm/codec/codec_bg.wasm", import.meta.url);

/** Reads and compiles the module, from disk or over HTTP. */
export async function compileCodecModule(url: URL = defaultUrl): Promise<WebAssembly.Module> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`Cannot load ${url}: status ${response.status}`);
  return await WebAssembly.compile(await response.arrayBuffer());
}

/**
 * Owns the hash that ties a built WASM module to the sources it was built from. Does not build.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";

/**
 * SHA-256 (hex) over the crate's `src/**`, `Cargo.toml`, `Cargo.lock` and `extraFiles`: relative
 * paths in code-unit order, each path and each content preceded by its length.
 */
export async function sourceHash(
  crateFolder: string,
  extraFiles: readonly string[] = [],
): Promise<string> {
  const paths = ["Cargo.toml", ...extraFiles, ...await filesUnder(crateFolder, "src")];
  if (await exists(join(crateFolder, "Cargo.lock"))) paths.push("Cargo.lock");
  const hash = createHash("sha256");
  for (const path of paths.sort()) {
    const content = await Deno.readFile(join(crateFolder, path));
    hash.update(`${path.length}:${path}${content.length}:`);
    hash.update(content);
  }
  return hash.digest("hex");
}

/** SHA-256 of bytes as lower-case hex. */
export function sha256Hex(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function filesUnder(root: string, folder: string): Promise<string[]> {
  const paths: string[] = [];
  for await (const entry of Deno.readDir(join(root, folder))) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) paths.push(...await filesUnder(root, path));
    else if (entry.isFile) paths.push(path);
  }
  return paths;
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

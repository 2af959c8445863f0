/** Finding and reading fixture files. */
import { join, relative } from "node:path";
import { decodeToF32 } from "@/tensor/half.ts";
import { readSafetensorsHeader } from "@/weights/safetensors.ts";
import { diskFolder } from "@/weights/disk_folder.ts";

/** Kinds of fixtures, by the file that marks them. */
export type FixtureKind =
  | "model"
  | "tokenizer"
  | "preprocess"
  | "resize"
  | "prompt"
  | "decode"
  | "training"
  | "data";

export interface Fixture {
  readonly kind: FixtureKind;
  /** Relative to the root, for reports and `--only`. */
  readonly name: string;
  readonly path: string;
}

const markers: readonly (readonly [RegExp, FixtureKind])[] = [
  [/(^|\/)golden\/cases\.json$/, "model"],
  [/(^|\/)golden\/train\.json$/, "training"],
  [/(^|\/)golden_cases\.json$/, "tokenizer"],
  [/(^|\/)preprocess_cases\.json$/, "preprocess"],
  [/(^|\/)resize_cases\.safetensors$/, "resize"],
  [/(^|\/)prompt_cases\.json$/, "prompt"],
  [/(^|\/)image_decode\/decoded\.safetensors$/, "decode"],
  [/(^|\/)data\/[^/]+\.json$/, "data"],
];

/** Every fixture below `root`, sorted by name. */
export async function findFixtures(root: string): Promise<Fixture[]> {
  const found: Fixture[] = [];
  const visit = async (folder: string): Promise<void> => {
    for await (const entry of Deno.readDir(folder)) {
      const path = join(folder, entry.name);
      if (entry.isDirectory) await visit(path);
      const name = relative(root, path).replaceAll("\\", "/");
      const kind = markers.find(([pattern]) => pattern.test(name))?.[1];
      if (kind) found.push({ kind, name, path });
    }
  };
  await visit(root);
  return found.sort((a, b) => a.name < b.name ? -1 : 1);
}

/** One tensor of a golden file, widened to numbers. */
export interface GoldenTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array | Int32Array | Uint8Array;
}

/** Reads a whole safetensors file. Floats become float32; integers keep their type. */
export async function readGoldens(
  folder: string,
  name: string,
): Promise<Map<string, GoldenTensor>> {
  const source = await diskFolder(folder).open(name);
  try {
    const file = await readSafetensorsHeader(source);
    if (file.problems.length > 0) throw new SyntaxError(file.problems.join("; "));
    const out = new Map<string, GoldenTensor>();
    for (const tensor of file.tensors) {
      const bytes = await source.read(tensor.offset, tensor.sizeBytes);
      const values = tensor.dtype === "U8"
        ? bytes
        : tensor.dtype === "I32"
        ? new Int32Array(bytes.buffer)
        : tensor.dtype === "I64"
        ? Int32Array.from(new BigInt64Array(bytes.buffer), Number)
        : decodeToF32(bytes, tensor.dtype);
      out.set(tensor.name, { shape: tensor.shape, values });
    }
    return out;
  } finally {
    source.close();
  }
}

/** Parses a JSON fixture. */
export async function readJson<T>(path: string): Promise<T> {
  return JSON.parse(await Deno.readTextFile(path)) as T;
}

/**
 * Reading a packed folder: manifest, headers and sizes are checked at once and every fault is told
 * in one error; bytes are read when the loader wants them. It does not know the model.
 */
import { matrixLayoutVersion } from "@/kernels/matrix_layout.ts";
import { CheckpointProblems } from "./checkpoint.ts";
import type { TensorName } from "./names.ts";
import {
  JOURNAL_FILE,
  MANIFEST_FILE,
  packedBytes,
  type PackedManifest,
  type PackedMatrix,
  parseManifest,
  parseMatrices,
} from "./packed_manifest.ts";
import { readSafetensorsHeader, type StoredTensor } from "./safetensors.ts";
import { type ByteSource, type FileFolder, readText } from "./source.ts";

export interface StoredMatrix {
  readonly matrix: PackedMatrix;
  readonly tensor: StoredTensor;
}

/** SHA-256 of a whole file, in hexadecimal; `onBytes` is told how many more were read. */
export type FileHash = (
  source: ByteSource,
  onBytes?: (bytes: number) => void,
) => Promise<string>;

/** What a folder holds, by its file names alone. */
export type FolderKind = "packed" | "unfinished" | "checkpoint";

export function folderKind(names: readonly string[]): FolderKind {
  if (names.includes(MANIFEST_FILE)) return "packed";
  return names.includes(JOURNAL_FILE) ? "unfinished" : "checkpoint";
}

export class PackedFolder {
  readonly label: string;
  readonly manifest: PackedManifest;
  readonly matrices: ReadonlyMap<TensorName, StoredMatrix>;
  /** Float32 vectors. */
  readonly vectors: ReadonlyMap<TensorName, StoredTensor>;
  /** What is wrong so far; the loader adds what the model misses and then throws all. */
  readonly problems: CheckpointProblems;
  readonly #sources: ReadonlyMap<string, ByteSource>;

  private constructor(contents: {
    label: string;
    manifest: PackedManifest;
    parts: PartReader;
    problems: CheckpointProblems;
    sources: ReadonlyMap<string, ByteSource>;
  }) {
    this.label = contents.label;
    this.manifest = contents.manifest;
    this.matrices = contents.parts.matrices;
    this.vectors = contents.parts.vectors;
    this.problems = contents.problems;
    this.#sources = contents.sources;
  }

  /** Reads the manifest and all headers; throws OperatingError when the manifest is unusable. */
  static async open(folder: FileFolder): Promise<PackedFolder> {
    const { label } = folder;
    const problems = new CheckpointProblems();
    const manifest = parseManifest(await readText(folder, MANIFEST_FILE) ?? "");
    if (typeof manifest === "string") problems.add("bad manifest", manifest);
    else if (manifest.layout !== matrixLayoutVersion) {
      problems.add(
        "bad manifest",
        `bytes are in layout ${manifest.layout}, this build reads ${matrixLayoutVersion}: ` +
          "pack the checkpoint again",
      );
    }
    problems.throwIfAny(label);
    const sources = new Map<string, ByteSource>();
    const parts = new PartReader(manifest as PackedManifest, problems);
    try {
      await openFiles(folder, manifest as PackedManifest, { sources, problems });
      for (const [name, source] of sources) {
        if (name.endsWith(".safetensors")) await parts.read(source);
      }
      parts.reportMissing();
    } catch (error) {
      for (const source of sources.values()) source.close();
      throw error;
    }
    return new PackedFolder({
      label,
      manifest: manifest as PackedManifest,
      parts,
      problems,
      sources,
    });
  }

  /** Hashes every file; adds those that changed to the problems. */
  async verify(
    hashOf: FileHash,
    onProgress?: (doneBytes: number, totalBytes: number) => void,
  ): Promise<void> {
    let totalBytes = 0;
    for (const source of this.#sources.values()) totalBytes += source.sizeBytes;
    let doneBytes = 0;
    for (const [name, source] of this.#sources) {
      const sha256 = await hashOf(source, (bytes) => onProgress?.(doneBytes += bytes, totalBytes));
      const expected = this.manifest.files[name]!.sha256;
      if (sha256 === expected) continue;
      this.problems.add("files that changed since they were packed", `${name}: sha256 ${sha256}`);
    }
  }

  close(): void {
    for (const source of this.#sources.values()) source.close();
  }
}

async function openFiles(
  folder: FileFolder,
  manifest: PackedManifest,
  into: { sources: Map<string, ByteSource>; problems: CheckpointProblems },
): Promise<void> {
  const names = await folder.names();
  for (const [name, { bytes }] of Object.entries(manifest.files)) {
    if (!names.includes(name)) {
      into.problems.add("missing files", name);
      continue;
    }
    const source = await folder.open(name);
    into.sources.set(name, source);
    if (source.sizeBytes === bytes) continue;
    into.problems.add("files of a wrong size", `${name}: ${source.sizeBytes} bytes, not ${bytes}`);
  }
}

/** Collects the tensors of all parts and compares them with the manifest and the layout. */
class PartReader {
  readonly matrices = new Map<TensorName, StoredMatrix>();
  readonly vectors = new Map<TensorName, StoredTensor>();
  readonly #manifest: PackedManifest;
  readonly #problems: CheckpointProblems;

  constructor(manifest: PackedManifest, problems: CheckpointProblems) {
    this.#manifest = manifest;
    this.#problems = problems;
  }

  async read(source: ByteSource): Promise<void> {
    const header = await readSafetensorsHeader(source);
    for (const problem of header.problems) this.#problems.add("bad safetensors files", problem);
    const described = parseMatrices(header.metadata);
    if (typeof described === "string") {
      this.#problems.add("bad safetensors files", `${source.name}: ${described}`);
      return;
    }
    for (const tensor of header.tensors) this.#keep(tensor, described[tensor.name]);
  }

  #keep(tensor: StoredTensor, matrix: PackedMatrix | undefined): void {
    const { name, source, dtype, sizeBytes } = tensor;
    const wrong = (problem: string) =>
      this.#problems.add("bad tensors", `${name} in ${source.name}: ${problem}`);
    if (this.#manifest.tensors[name]?.file !== source.name) {
      wrong("the manifest does not place it there");
    } else if (matrix === undefined) {
      if (dtype === "F32") this.vectors.set(name, tensor);
      else wrong(`${dtype} without a description`);
    } else if (dtype !== "U8" || sizeBytes !== packedBytes(matrix)) {
      const { format, experts, rows, columns } = matrix;
      wrong(
        `${dtype} of ${sizeBytes} bytes, ${format} [${experts}, ${rows}, ${columns}] ` +
          `needs U8 of ${packedBytes(matrix)}`,
      );
    } else this.matrices.set(name, { matrix, tensor });
  }

  /** Tensors of the manifest that no part holds; parts with faults have told theirs. */
  reportMissing(): void {
    if (!this.#problems.empty) return;
    for (const [name, { file }] of Object.entries(this.#manifest.tensors)) {
      if (this.matrices.has(name) || this.vectors.has(name)) continue;
      this.#problems.add("missing tensors", `${name} (named in ${MANIFEST_FILE} for ${file})`);
    }
  }
}

/**
 * Writing a packed folder so that a crash loses one part at most: each part is written beside its
 * name, synced, renamed and entered in a journal; the manifest comes last. It knows no model.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import type { TensorName } from "./names.ts";
import { hashOf } from "./file_hash.ts";
import { folderKind } from "./packed_folder.ts";
import {
  type FileRecord,
  headerOf,
  JOURNAL_FILE,
  MANIFEST_FILE,
  manifestText,
  MATRICES_KEY,
  type PackedEntry,
  type PackedManifest,
  parseManifest,
  type TensorRecord,
} from "./packed_manifest.ts";
import { encodeSafetensorsHeader } from "./safetensors_writer.ts";
import { diskFolder } from "./disk_folder.ts";
import type { FileFolder } from "./source.ts";

/** Ending of files that are being written. */
const UNFINISHED = ".partial";

/** One safetensors file to write. */
export interface PartPlan {
  readonly file: string;
  readonly entries: readonly PackedEntry[];
}

/** Cuts entries, in order, into files of at most `partBytes` (a larger entry gets its own). */
export function planParts(entries: readonly PackedEntry[], partBytes: number): PartPlan[] {
  const groups: PackedEntry[][] = [];
  let filled = Infinity;
  for (const entry of entries) {
    if (filled + entry.sizeBytes > partBytes) {
      groups.push([]);
      filled = 0;
    }
    groups.at(-1)!.push(entry);
    filled += entry.sizeBytes;
  }
  const number = (index: number) => String(index).padStart(5, "0");
  return groups.map((entries, i) => ({
    file: `packed-${number(i + 1)}-of-${number(groups.length)}.safetensors`,
    entries,
  }));
}

/** Writes the bytes of one entry, in order; resolves to its relative error. */
export type WriteEntry = (
  entry: PackedEntry,
  write: (bytes: Uint8Array) => Promise<void>,
) => Promise<number>;

interface PartRecord extends FileRecord {
  readonly tensors: Readonly<Record<TensorName, TensorRecord>>;
}

interface Journal {
  /** Of source and plan: only the same packing may be resumed. */
  readonly fingerprint: string;
  readonly parts: Record<string, PartRecord>;
}

export class PackedWriter {
  readonly path: string;
  readonly #journal: Journal;

  private constructor(path: string, journal: Journal) {
    this.path = path;
    this.#journal = journal;
  }

  /**
   * Creates the folder or takes up an unfinished packing in it; finished parts are kept when their
   * hash is right. Throws OperatingError when the folder holds anything else of ours.
   */
  static async open(path: string, fingerprint: string): Promise<PackedWriter> {
    await Deno.mkdir(path, { recursive: true });
    const folder = diskFolder(path);
    const names = await folder.names();
    const kind = folderKind(names);
    if (kind === "packed") {
      throw new OperatingError(
        "checkpoint_invalid",
        `Cannot pack into ${path}: it holds another packed model; choose another --out`,
      );
    }
    if (kind === "checkpoint" && names.length > 0) {
      throw new OperatingError(
        "checkpoint_invalid",
        `Cannot pack into ${path}: it is not empty; choose another --out`,
      );
    }
    let parts: Record<string, PartRecord> = {};
    if (kind === "unfinished") {
      const journal = JSON.parse(await Deno.readTextFile(join(path, JOURNAL_FILE))) as Journal;
      if (journal.fingerprint !== fingerprint) {
        throw new OperatingError(
          "checkpoint_invalid",
          `Cannot resume packing into ${path}: it was begun with another checkpoint or other ` +
            "flags; remove the folder or choose another --out",
        );
      }
      parts = await intactParts(folder, names, journal.parts);
    }
    const writer = new PackedWriter(path, { fingerprint, parts });
    await writer.#saveJournal();
    return writer;
  }

  /** The manifest of a folder that is already complete; undefined when it is not. */
  static async manifestOf(path: string): Promise<PackedManifest | undefined> {
    let text;
    try {
      text = await Deno.readTextFile(join(path, MANIFEST_FILE));
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
    const manifest = parseManifest(text);
    return typeof manifest === "string" ? undefined : manifest;
  }

  hasPart({ file }: PartPlan): boolean {
    return file in this.#journal.parts;
  }

  /** Writes one part; it counts only once all its bytes are on disk. */
  async writePart(part: PartPlan, writeEntry: WriteEntry): Promise<void> {
    const tensors: Record<TensorName, TensorRecord> = {};
    const record = await writeWhole(join(this.path, part.file), async (write) => {
      await write(partHeader(part));
      for (const entry of part.entries) {
        const hash = createHash("sha256");
        let written = 0;
        const relativeError = await writeEntry(entry, async (bytes) => {
          hash.update(bytes);
          written += bytes.byteLength;
          await write(bytes);
        });
        assert(written === entry.sizeBytes, `${entry.name}: ${written} of ${entry.sizeBytes}`);
        tensors[entry.name] = { file: part.file, sha256: hash.digest("hex"), relativeError };
      }
    });
    this.#journal.parts[part.file] = { ...record, tensors };
    await this.#saveJournal();
  }

  /** Copies the other files of the checkpoint and writes the manifest: now the folder is packed. */
  async finish(
    facts: Pick<PackedManifest, "layout" | "precision" | "parameters">,
    copied: { readonly folder: FileFolder; readonly names: readonly string[] },
  ): Promise<PackedManifest> {
    const files: Record<string, FileRecord> = {};
    const tensors: Record<TensorName, TensorRecord> = {};
    for (const [file, part] of Object.entries(this.#journal.parts).sort(byName)) {
      files[file] = { bytes: part.bytes, sha256: part.sha256 };
      Object.assign(tensors, part.tensors);
    }
    const names = [...copied.names].sort();
    const copies = await Promise.all(
      names.map((name) => copyFile(copied.folder, name, join(this.path, name))),
    );
    names.forEach((name, i) => files[name] = copies[i]!);
    const manifest = { ...facts, files, tensors };
    await writeWhole(join(this.path, MANIFEST_FILE), (write) => {
      return write(new TextEncoder().encode(manifestText(manifest)));
    });
    await Deno.remove(join(this.path, JOURNAL_FILE));
    return manifest;
  }

  /** Not synced: a journal older than its parts costs their repetition, nothing else. */
  async #saveJournal(): Promise<void> {
    const path = join(this.path, JOURNAL_FILE);
    await Deno.writeTextFile(path + UNFINISHED, JSON.stringify(this.#journal));
    await Deno.rename(path + UNFINISHED, path);
  }
}

const byName = ([a]: [string, unknown], [b]: [string, unknown]) => a < b ? -1 : 1;

/** The parts of a journal whose files still have the hash that was noted. */
async function intactParts(
  folder: FileFolder,
  names: readonly string[],
  parts: Readonly<Record<string, PartRecord>>,
): Promise<Record<string, PartRecord>> {
  const intact: Record<string, PartRecord> = {};
  for (const [file, record] of Object.entries(parts)) {
    if (!names.includes(file)) continue;
    const source = await folder.open(file);
    try {
      const sameSize = source.sizeBytes === record.bytes;
      if (sameSize && await hashOf(source) === record.sha256) intact[file] = record;
    } finally {
      source.close();
    }
  }
  return intact;
}

function partHeader({ entries }: PartPlan): Uint8Array {
  const matrices = Object.fromEntries(
    entries.flatMap(({ name, matrix }) => matrix ? [[name, matrix]] : []),
  );
  return encodeSafetensorsHeader(entries.map(headerOf), {
    format: "flotilla",
    [MATRICES_KEY]: JSON.stringify(matrices),
  });
}

/** Writes a file beside its name, syncs it and renames it: it appears whole or not at all. */
async function writeWhole(
  path: string,
  content: (write: (bytes: Uint8Array) => Promise<void>) => Promise<void>,
): Promise<FileRecord> {
  const hash = createHash("sha256");
  let total = 0;
  const unfinished = path + UNFINISHED;
  const file = await Deno.open(unfinished, { write: true, create: true, truncate: true });
  try {
    await content(async (bytes) => {
      hash.update(bytes);
      total += bytes.byteLength;
      for (let at = 0; at < bytes.byteLength;) at += await file.write(bytes.subarray(at));
    });
    await file.syncData();
  } finally {
    file.close();
  }
  await Deno.rename(unfinished, path);
  return { bytes: total, sha256: hash.digest("hex") };
}

async function copyFile(folder: FileFolder, name: string, to: string): Promise<FileRecord> {
  const source = await folder.open(name);
  try {
    const bytes = await source.read(0, source.sizeBytes);
    return await writeWhole(to, (write) => write(bytes));
  } finally {
    source.close();
  }
}

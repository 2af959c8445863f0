/** Random access to the bytes of a checkpoint folder, on disk or in memory. */
import { join } from "node:path";
import { OperatingError } from "@/errors.ts";

/** One file. */
export interface ByteSource {
  readonly name: string;
  readonly sizeBytes: number;
  /** When the file was last written, where that is known. */
  readonly modifiedMs?: number;
  /** Exactly `length` bytes from `offset`; throws RangeError when the file is shorter. */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Fills `target` with the bytes from `offset`; the same error. */
  readInto(offset: number, target: Uint8Array): Promise<void>;
  close(): void;
}

/** A folder of files. */
export interface FileFolder {
  /** For messages. */
  readonly label: string;
  names(): Promise<string[]>;
  open(name: string): Promise<ByteSource>;
}

/** Names of a model folder's files; throws OperatingError when there is no such folder. */
export async function namesIn(folder: FileFolder): Promise<string[]> {
  try {
    return await folder.names();
  } catch (cause) {
    throw new OperatingError(
      "checkpoint_invalid",
      `Cannot open model folder ${folder.label}: no such folder`,
      { cause },
    );
  }
}

/** A folder on disk. */
export function diskFolder(path: string): FileFolder {
  return {
    label: path,
    names: async () => (await Array.fromAsync(Deno.readDir(path))).map((entry) => entry.name),
    open: (name) => openFile(join(path, name), name),
  };
}

/** Files already in memory (bundles, tests). */
export function memoryFolder(label: string, files: ReadonlyMap<string, Uint8Array>): FileFolder {
  return {
    label,
    names: () => Promise.resolve([...files.keys()]),
    open: (name) => {
      const bytes = files.get(name);
      if (!bytes) return Promise.reject(new Deno.errors.NotFound(name));
      return Promise.resolve(memorySource(name, bytes));
    },
  };
}

function memorySource(name: string, bytes: Uint8Array): ByteSource {
  const part = (offset: number, length: number): Uint8Array => {
    if (offset + length <= bytes.byteLength) return bytes.subarray(offset, offset + length);
    throw new RangeError(`Cannot read ${length} bytes at ${offset} of ${name}`);
  };
  return {
    name,
    sizeBytes: bytes.byteLength,
    read: (offset, length) => Promise.try(part, offset, length),
    readInto: (offset, target) => Promise.try(() => target.set(part(offset, target.byteLength))),
    close: () => {},
  };
}

async function openFile(path: string, name: string): Promise<ByteSource> {
  const file = await Deno.open(path, { read: true });
  const { size: sizeBytes, mtime } = await file.stat();
  let last: Promise<unknown> = Promise.resolve();
  const readNow = async (offset: number, target: Uint8Array): Promise<void> => {
    await file.seek(offset, Deno.SeekMode.Start);
    let filled = 0;
    while (filled < target.byteLength) {
      const count = await file.read(target.subarray(filled));
      if (count === null) {
        throw new RangeError(
          `Cannot read ${target.byteLength} bytes at ${offset} of ${name}: file ends early`,
        );
      }
      filled += count;
    }
  };
  // One file position is shared, so reads are queued.
  const readInto = (offset: number, target: Uint8Array): Promise<void> => {
    const result = last.then(() => readNow(offset, target));
    last = result.catch(() => undefined);
    return result;
  };
  return {
    name,
    sizeBytes,
    ...(mtime && { modifiedMs: mtime.getTime() }),
    read: async (offset, length) => {
      const out = new Uint8Array(length);
      await readInto(offset, out);
      return out;
    },
    readInto,
    close: () => file.close(),
  };
}

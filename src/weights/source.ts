/** Random access to the bytes of a checkpoint folder, on disk or in memory. */
import { join } from "node:path";

/** One file. */
export interface ByteSource {
  readonly name: string;
  readonly sizeBytes: number;
  /** Exactly `length` bytes from `offset`; throws RangeError when the file is shorter. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): void;
}

/** A folder of files. */
export interface FileFolder {
  /** For messages. */
  readonly label: string;
  names(): Promise<string[]>;
  open(name: string): Promise<ByteSource>;
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
      return Promise.resolve({
        name,
        sizeBytes: bytes.byteLength,
        read: (offset: number, length: number) =>
          offset + length > bytes.byteLength
            ? Promise.reject(new RangeError(`Cannot read ${length} bytes at ${offset} of ${name}`))
            : Promise.resolve(bytes.subarray(offset, offset + length)),
        close: () => {},
      });
    },
  };
}

async function openFile(path: string, name: string): Promise<ByteSource> {
  const file = await Deno.open(path, { read: true });
  const sizeBytes = (await file.stat()).size;
  let last: Promise<unknown> = Promise.resolve();
  const readNow = async (offset: number, length: number): Promise<Uint8Array> => {
    const out = new Uint8Array(length);
    await file.seek(offset, Deno.SeekMode.Start);
    let filled = 0;
    while (filled < length) {
      const count = await file.read(out.subarray(filled));
      if (count === null) {
        throw new RangeError(
          `Cannot read ${length} bytes at ${offset} of ${name}: file ends early`,
        );
      }
      filled += count;
    }
    return out;
  };
  return {
    name,
    sizeBytes,
    // One file position is shared, so reads are queued.
    read: (offset, length) => {
      const result = last.then(() => readNow(offset, length));
      last = result.catch(() => undefined);
      return result;
    },
    close: () => file.close(),
  };
}

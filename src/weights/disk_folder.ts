/** Checkpoint folders on disk. */
import { join } from "node:path";
import type { ByteSource, FileFolder } from "./source.ts";

/** A folder on disk. */
export function diskFolder(path: string): FileFolder {
  return {
    label: path,
    names: async () => (await Array.fromAsync(Deno.readDir(path))).map((entry) => entry.name),
    open: (name) => openFile(join(path, name), name),
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

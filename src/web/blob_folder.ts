/** A checkpoint folder whose files are blobs: kept by the browser, or chosen by its user. */
import type { ByteSource, FileFolder } from "@/weights/source.ts";

/** `label` is for messages. */
export function blobFolder(label: string, files: ReadonlyMap<string, Blob>): FileFolder {
  return {
    label,
    names: () => Promise.resolve([...files.keys()]),
    open: (name) => {
      const blob = files.get(name);
      if (!blob) return Promise.reject(new Error(`No file ${name} in ${label}`));
      return Promise.resolve(blobSource(name, blob));
    },
  };
}

function blobSource(name: string, blob: Blob): ByteSource {
  const read = async (offset: number, length: number) => {
    if (offset + length > blob.size) {
      throw new RangeError(`Cannot read ${length} bytes at ${offset} of ${name}`);
    }
    return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
  };
  return {
    name,
    sizeBytes: blob.size,
    read,
    readInto: async (offset, target) => target.set(await read(offset, target.byteLength)),
    close: () => {},
  };
}

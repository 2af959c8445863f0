/** Random access to the bytes of a checkpoint folder, wherever it lies. Folders on disk: `disk_folder.ts`. */
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

/** The text of a file; undefined when the folder has none of that name. */
export async function readText(folder: FileFolder, name: string): Promise<string | undefined> {
  if (!(await namesIn(folder)).includes(name)) return undefined;
  const source = await folder.open(name);
  try {
    return new TextDecoder().decode(await source.read(0, source.sizeBytes));
  } finally {
    source.close();
  }
}

/** Files already in memory (bundles, tests). */
export function memoryFolder(label: string, files: ReadonlyMap<string, Uint8Array>): FileFolder {
  return {
    label,
    names: () => Promise.resolve([...files.keys()]),
    open: (name) => {
      const bytes = files.get(name);
      if (!bytes) return Promise.reject(new Error(`No file ${name} in ${label}`));
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

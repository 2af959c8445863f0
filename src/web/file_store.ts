/**
 * Keeps downloaded files in the browser (origin private file system), by the hash of their content;
 * in memory where the browser grants no storage. Runs in a worker: only there files can be written in
 * place. A file that is not whole yet survives the page and is continued. Knows no network.
 */

export interface FileStore {
  /** Whether files outlive the page. */
  readonly isKept: boolean;
  /** A whole file. */
  find(sha256: string): Promise<Blob | undefined>;
  /** Opens a file to append to it; nobody else may have it open. */
  open(sha256: string): Promise<FileWriter>;
  /** A short text under a name, as `writeText` left it. */
  readText(name: string): Promise<string | undefined>;
  writeText(name: string, text: string): Promise<void>;
  /** Forgets whole and unfinished files that are not in `wanted`. */
  keepOnly(wanted: ReadonlySet<string>): Promise<void>;
  /** Names of the texts. */
  textNames(): Promise<string[]>;
  removeText(name: string): Promise<void>;
}

export interface FileWriter {
  readonly sizeBytes: number;
  /** Bytes from `offset`, up to the end or to `length` of them. */
  read(offset: number, length: number): Promise<Uint8Array>;
  append(bytes: Uint8Array<ArrayBuffer>): void;
  /** Begins anew. */
  clear(): void;
  /** The file is whole: `find` gives it from now on. */
  finish(): Promise<Blob>;
  /** Leaves it unfinished. */
  close(): void;
}

/** What the type libraries of windows do not know: it is there in workers only. */
interface SyncAccessHandle {
  getSize(): number;
  read(target: Uint8Array, options: { at: number }): number;
  write(bytes: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

const FOLDER = "flotilla-models";
/** An empty file of this ending says that the one it names is whole. */
const WHOLE = ".whole";
const TEXT = ".json";

/** The browser's storage; memory where it has none (not a secure page, or a private window). */
export async function openFileStore(): Promise<FileStore> {
  // Pages that were not loaded securely have no `navigator.storage`.
  const storage = navigator.storage as StorageManager | undefined;
  if (storage?.getDirectory === undefined) return new MemoryStore();
  try {
    const root = await storage.getDirectory();
    const store = new BrowserStore(await root.getDirectoryHandle(FOLDER, { create: true }));
    await store.probe();
    return store;
  } catch (error) {
    if (error instanceof DOMException || error instanceof TypeError) return new MemoryStore();
    throw error;
  }
}

class BrowserStore implements FileStore {
  readonly isKept = true;
  readonly #folder: FileSystemDirectoryHandle;

  constructor(folder: FileSystemDirectoryHandle) {
    this.#folder = folder;
  }

  /** Throws where files cannot be written in place. */
  async probe(): Promise<void> {
    const name = `probe-${crypto.randomUUID()}`;
    const access = await this.#access(name);
    access.close();
    await this.#folder.removeEntry(name);
  }

  async find(sha256: string): Promise<Blob | undefined> {
    if (await this.#file(sha256 + WHOLE) === undefined) return undefined;
    return await this.#file(sha256);
  }

  async open(sha256: string): Promise<FileWriter> {
    const access = await this.#access(sha256);
    let size = access.getSize();
    let isOpen = true;
    const close = () => {
      if (isOpen) access.close();
      isOpen = false;
    };
    return {
      get sizeBytes() {
        return size;
      },
      read: (offset, length) => {
        const bytes = new Uint8Array(Math.min(length, size - offset));
        return Promise.resolve(bytes.subarray(0, access.read(bytes, { at: offset })));
      },
      append: (bytes) => {
        const written = access.write(bytes, { at: size });
        if (written < bytes.length) throw new DOMException("No room left", "QuotaExceededError");
        size += written;
      },
      clear: () => {
        access.truncate(0);
        size = 0;
      },
      finish: async () => {
        access.flush();
        close();
        await this.#folder.getFileHandle(sha256 + WHOLE, { create: true });
        return (await this.#file(sha256))!;
      },
      close,
    };
  }

  async readText(name: string): Promise<string | undefined> {
    return await (await this.#file(name + TEXT))?.text();
  }

  async writeText(name: string, text: string): Promise<void> {
    const access = await this.#access(name + TEXT);
    try {
      access.truncate(0);
      access.write(new TextEncoder().encode(text), { at: 0 });
      access.flush();
    } finally {
      access.close();
    }
  }

  async textNames(): Promise<string[]> {
    const names = await this.#names();
    return names.filter((name) => name.endsWith(TEXT)).map((name) => name.slice(0, -TEXT.length));
  }

  async removeText(name: string): Promise<void> {
    await this.#remove(name + TEXT);
  }

  async keepOnly(wanted: ReadonlySet<string>): Promise<void> {
    for (const name of await this.#names()) {
      const sha256 = name.endsWith(WHOLE) ? name.slice(0, -WHOLE.length) : name;
      if (/^[0-9a-f]{64}$/.test(sha256) && !wanted.has(sha256)) await this.#remove(name);
    }
  }

  async #names(): Promise<string[]> {
    const names: string[] = [];
    // The type library leaves the iteration of directories out.
    const folder = this.#folder as unknown as { keys(): AsyncIterable<string> };
    for await (const name of folder.keys()) names.push(name);
    return names;
  }

  /** Another page may be using a file: it then stays. */
  async #remove(name: string): Promise<void> {
    try {
      await this.#folder.removeEntry(name);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
    }
  }

  async #file(name: string): Promise<File | undefined> {
    try {
      return await (await this.#folder.getFileHandle(name)).getFile();
    } catch (error) {
      if (error instanceof DOMException && error.name === "NotFoundError") return undefined;
      throw error;
    }
  }

  async #access(name: string): Promise<SyncAccessHandle> {
    const handle = await this.#folder.getFileHandle(name, { create: true });
    return await (handle as unknown as { createSyncAccessHandle(): Promise<SyncAccessHandle> })
      .createSyncAccessHandle();
  }
}

/** Files of this visit only. */
export class MemoryStore implements FileStore {
  readonly isKept = false;
  readonly #files = new Map<string, Blob>();
  readonly #unfinished = new Map<string, Blob>();
  readonly #texts = new Map<string, string>();

  find(sha256: string): Promise<Blob | undefined> {
    return Promise.resolve(this.#files.get(sha256));
  }

  open(sha256: string): Promise<FileWriter> {
    const held = this.#unfinished.get(sha256);
    let parts: BlobPart[] = held ? [held] : [];
    let size = held?.size ?? 0;
    const blob = () => new Blob(parts);
    return Promise.resolve({
      get sizeBytes() {
        return size;
      },
      read: async (offset, length) =>
        new Uint8Array(await blob().slice(offset, offset + length).arrayBuffer()),
      append: (bytes) => {
        parts.push(bytes);
        size += bytes.length;
      },
      clear: () => {
        parts = [];
        size = 0;
      },
      finish: () => {
        const file = blob();
        this.#files.set(sha256, file);
        this.#unfinished.delete(sha256);
        return Promise.resolve(file);
      },
      close: () => {
        if (!this.#files.has(sha256)) this.#unfinished.set(sha256, blob());
      },
    });
  }

  readText(name: string): Promise<string | undefined> {
    return Promise.resolve(this.#texts.get(name));
  }

  writeText(name: string, text: string): Promise<void> {
    this.#texts.set(name, text);
    return Promise.resolve();
  }

  textNames(): Promise<string[]> {
    return Promise.resolve([...this.#texts.keys()]);
  }

  removeText(name: string): Promise<void> {
    this.#texts.delete(name);
    return Promise.resolve();
  }

  keepOnly(wanted: ReadonlySet<string>): Promise<void> {
    for (const files of [this.#files, this.#unfinished]) {
      for (const sha256 of files.keys()) if (!wanted.has(sha256)) files.delete(sha256);
    }
    return Promise.resolve();
  }
}

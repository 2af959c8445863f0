/**
 * From where a model is said to be to a folder that the loader reads: files from a server, kept for
 * the next visit as far as the browser allows, or files that the visitor chose.
 */
import { OperatingError } from "@/errors.ts";
import { sha256 } from "@/sha256.ts";
import type { FileFolder } from "@/weights/source.ts";
import { blobFolder } from "./blob_folder.ts";
import { downloadFile } from "./download.ts";
import { FILE_LIST, type FileList, type ListedFile, parseFileList } from "@/weights/file_list.ts";
import { type FileStore, MemoryStore } from "./file_store.ts";
import type { KeptModel, ModelLocation } from "./protocol.ts";

export interface FilesOptions {
  readonly store: FileStore;
  readonly fetch: typeof fetch;
  readonly onBytes?: (doneBytes: number, totalBytes: number) => void;
  /** Runs `work` while no other page of this origin runs work of that name. */
  readonly exclusively?: <T>(name: string, work: () => Promise<T>) => Promise<T>;
}

export interface OpenedFiles {
  readonly folder: FileFolder;
  /** What the model is called there. */
  readonly model: string;
  readonly isKept: boolean;
}

/** Throws OperatingError: `unavailable`, `checkpoint_invalid`, as downloading does. */
export async function openFiles(
  location: ModelLocation,
  options: FilesOptions,
): Promise<OpenedFiles> {
  if (location.kind === "files") return chosenFiles(location.label, location.files);
  const list = location.kind === "kept"
    ? await keptList(location.url, options.store)
    : await currentList(location, options);
  if (list === undefined) {
    throw new OperatingError("unavailable", `Cannot load ${location.url}: it was not kept here`);
  }
  const headers = location.kind === "kept" ? {} : location.headers;
  const exclusively = options.exclusively ?? ((_name, work) => work());
  return await exclusively(`flotilla ${location.url}`, async () => {
    try {
      return await getAll(list, { ...options, base: location.url, headers });
    } catch (error) {
      // No room to keep it: it may still run in memory.
      if (!isQuotaError(error) || !options.store.isKept) throw error;
      await forgetFiles(location.url, options.store);
      return await getAll(list, {
        ...options,
        store: new MemoryStore(),
        base: location.url,
        headers,
      });
    }
  });
}

/** Forgets the kept files of a model, but not those that another kept model shares. */
export async function forgetFiles(url: string, store: FileStore): Promise<void> {
  await store.removeText(await textName(url));
  await dropUnlisted(store);
}

/** The models whose files are kept. */
export async function keptFiles(store: FileStore): Promise<KeptModel[]> {
  const models: KeptModel[] = [];
  for (const name of await store.textNames()) {
    const list = parseKept(await store.readText(name));
    if (list === undefined) continue;
    const { url, model, files } = list;
    models.push({ url, model, totalBytes: files.reduce((sum, file) => sum + file.bytes, 0) });
  }
  return models;
}

function chosenFiles(label: string, files: readonly File[]): OpenedFiles {
  const byName = new Map<string, Blob>(files.map((file) => [file.name, file]));
  if (!byName.has("config.json")) {
    throw new OperatingError(
      "checkpoint_invalid",
      `Cannot load the chosen files of ${label}: config.json is not among them`,
    );
  }
  return { folder: blobFolder(label, byName), model: label, isKept: false };
}

/** The server's list, or the kept one when the server cannot be reached. */
async function currentList(
  location: Extract<ModelLocation, { kind: "url" }>,
  { store, fetch }: FilesOptions,
): Promise<FileList> {
  const { url, headers } = location;
  const listUrl = new URL(FILE_LIST, url);
  let response: Response;
  try {
    response = await fetch(listUrl, { headers, cache: "no-cache" });
  } catch (cause) {
    const kept = await keptList(url, store);
    if (kept !== undefined) return kept;
    throw new OperatingError("unavailable", `Cannot load ${listUrl}: it cannot be reached`, {
      cause,
    });
  }
  if (!response.ok) {
    await response.body?.cancel();
    throw new OperatingError("unavailable", `Cannot load ${listUrl}: status ${response.status}`);
  }
  return parseFileList(await response.text(), String(listUrl));
}

/** The list of an earlier visit; undefined when there is none that can be used. */
async function keptList(url: string, store: FileStore): Promise<FileList | undefined> {
  return parseKept(await store.readText(await textName(url)));
}

/** A list with the URL that it was kept for; undefined when writing it was interrupted. */
function parseKept(text: string | undefined): FileList & { url: string } | undefined {
  if (text === undefined) return undefined;
  try {
    const list = parseFileList(text, "the kept list");
    return { ...list, url: (JSON.parse(text) as { url: string }).url };
  } catch (_interruptedWrite) {
    return undefined;
  }
}

async function getAll(
  list: FileList,
  options: FilesOptions & {
    readonly base: string;
    readonly headers: Readonly<Record<string, string>>;
  },
): Promise<OpenedFiles> {
  const { store, fetch, onBytes, base, headers } = options;
  const totalBytes = list.files.reduce((sum, file) => sum + file.bytes, 0);
  const files = new Map<string, Blob>();
  let finishedBytes = 0;
  // Before its files, so that nobody takes unfinished ones for left over.
  await store.writeText(await textName(base), JSON.stringify({ url: base, ...list }));
  const get = (file: ListedFile) =>
    downloadFile(file, {
      url: new URL(encodeURIComponent(file.name), base),
      ...{ store, fetch, headers },
      onBytes: (bytes) => onBytes?.(finishedBytes + bytes, totalBytes),
    });
  for (const file of list.files) {
    files.set(file.name, await get(file));
    finishedBytes += file.bytes;
  }
  await dropUnlisted(store);
  return { folder: blobFolder(base, files), model: list.model, isKept: store.isKept };
}

/** Removes the files of lists that were replaced or forgotten. */
async function dropUnlisted(store: FileStore): Promise<void> {
  const wanted = new Set<string>();
  for (const name of await store.textNames()) {
    const list = parseKept(await store.readText(name));
    if (list === undefined) await store.removeText(name);
    for (const file of list?.files ?? []) wanted.add(file.sha256);
  }
  await store.keepOnly(wanted);
}

async function textName(url: string): Promise<string> {
  return (await sha256(new TextEncoder().encode(url))).subarray(0, 16).toHex();
}

function isQuotaError(error: unknown): boolean {
  return error instanceof DOMException && error.name === "QuotaExceededError";
}

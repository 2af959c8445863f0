/**
 * Gets one listed file from a server: continues what an earlier visit began, tries again when the
 * connection breaks, and accepts the file only with the hash that the list names.
 */
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { Sha256 } from "@/sha256.ts";
import { chunksOf } from "./byte_chunks.ts";
import type { ListedFile } from "@/weights/file_list.ts";
import type { FileStore, FileWriter } from "./file_store.ts";

export interface DownloadOptions {
  readonly url: URL;
  readonly store: FileStore;
  readonly fetch: typeof fetch;
  readonly headers: Readonly<Record<string, string>>;
  /** Told the bytes of the file that are there now. */
  readonly onBytes?: (doneBytes: number) => void;
  /** Waits before another try. */
  readonly sleep?: (ms: number) => Promise<void>;
}

/** Bytes of an unfinished file that are hashed at a time. */
const PIECE_BYTES = 4 * 1024 * 1024;

/** A connection that broke, which may be better in a moment. */
class BrokenConnection extends Error {}

/**
 * The file, from the store when it is there. Throws OperatingError: `unavailable` when the server
 * cannot be reached or refuses, `checkpoint_invalid` when it sends something else than listed.
 * DOMException `QuotaExceededError` when the store is full.
 */
export async function downloadFile(file: ListedFile, options: DownloadOptions): Promise<Blob> {
  const { store, onBytes, sleep = wait } = options;
  const found = await store.find(file.sha256);
  if (found?.size === file.bytes) {
    onBytes?.(file.bytes);
    return found;
  }
  const writer = await store.open(file.sha256);
  try {
    for (let tries = 1;; tries++) {
      try {
        return await attempt(file, writer, options);
      } catch (error) {
        if (!(error instanceof BrokenConnection)) throw error;
        if (tries >= limits.downloadTriesMax) throw unreachable(options.url, error);
        await sleep(limits.downloadRetryMs * 2 ** (tries - 1));
      }
    }
  } finally {
    writer.close();
  }
}

async function attempt(
  file: ListedFile,
  writer: FileWriter,
  options: DownloadOptions,
): Promise<Blob> {
  if (writer.sizeBytes > file.bytes) writer.clear();
  const isContinued = writer.sizeBytes > 0;
  let hash = await hashHeld(writer);
  options.onBytes?.(writer.sizeBytes);
  if (writer.sizeBytes < file.bytes || file.bytes === 0) {
    const response = await request(writer.sizeBytes, options);
    if (writer.sizeBytes > 0 && response.status !== 206) {
      // The server sends the whole file again.
      writer.clear();
      hash = new Sha256();
    }
    await receive(file, response, { writer, hash, options });
  }
  const sha256 = hash.digest().toHex();
  if (sha256 === file.sha256) return await writer.finish();
  writer.clear();
  // What an earlier visit left may be damaged: only a fresh copy tells.
  if (isContinued) throw new BrokenConnection(`${file.name} was continued from damaged bytes`);
  throw new OperatingError(
    "checkpoint_invalid",
    `Cannot use ${options.url}: its SHA-256 is ${sha256}, not ${file.sha256} as listed`,
  );
}

/** The hash of what an earlier attempt left. */
async function hashHeld(writer: FileWriter): Promise<Sha256> {
  const hash = new Sha256();
  for (let at = 0; at < writer.sizeBytes; at += PIECE_BYTES) {
    hash.update(await writer.read(at, PIECE_BYTES));
  }
  return hash;
}

async function request(
  fromByte: number,
  { url, fetch, headers }: DownloadOptions,
): Promise<Response> {
  const range = fromByte > 0 ? { range: `bytes=${fromByte}-` } : {};
  let response: Response;
  try {
    // The store keeps the file: a second copy in the browser's cache would only take room.
    response = await fetch(url, { headers: { ...headers, ...range }, cache: "no-store" });
  } catch (cause) {
    throw new BrokenConnection(String(cause), { cause });
  }
  if (response.status >= 500) throw new BrokenConnection(`status ${response.status}`);
  if (response.ok && response.body !== null) return response;
  throw new OperatingError("unavailable", `Cannot load ${url}: status ${response.status}`);
}

async function receive(
  file: ListedFile,
  response: Response,
  { writer, hash, options }: { writer: FileWriter; hash: Sha256; options: DownloadOptions },
): Promise<void> {
  const chunks = chunksOf(response.body!);
  while (true) {
    let next: IteratorResult<Uint8Array<ArrayBuffer>>;
    try {
      next = await chunks.next();
    } catch (cause) {
      throw new BrokenConnection(String(cause), { cause });
    }
    if (next.done) break;
    if (writer.sizeBytes + next.value.length > file.bytes) {
      await chunks.return(undefined);
      writer.clear();
      throw new OperatingError(
        "checkpoint_invalid",
        `Cannot use ${options.url}: it is longer than the ${file.bytes} bytes listed`,
      );
    }
    writer.append(next.value);
    hash.update(next.value);
    options.onBytes?.(writer.sizeBytes);
  }
  if (writer.sizeBytes < file.bytes) throw new BrokenConnection("the answer ended early");
}

function unreachable(url: URL, cause: Error): OperatingError {
  return new OperatingError("unavailable", `Cannot load ${url}: ${cause.message}`, { cause });
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

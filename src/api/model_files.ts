/**
 * `GET /web/models/{id}/files.json` and the files that it lists, for pages that run a model
 * themselves. Only models that the composition root offers have files; ranges let a broken download
 * go on. Which files a model has, and their hashes, is the offer's.
 */
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { FILE_LIST, type FileList, type ListedFile } from "@/weights/file_list.ts";
import type { ByteSource } from "@/weights/source.ts";
import type { AppContext } from "./exchange.ts";
import type { Services } from "./services.ts";

/** A model whose files are given out. */
export interface ModelOffer {
  /** Hashes the files when it is first asked. */
  list(): Promise<FileList>;
  open(name: string): Promise<ByteSource>;
}

/** Where a model's files are found: what `/v1/models` tells. */
export function modelFilesPath(id: string): string {
  return `/web/models/${encodeURIComponent(id)}/`;
}

export async function handleModelFile(
  context: AppContext,
  { offers }: Services,
): Promise<Response> {
  const { id = "", name = "" } = context.req.param();
  const offer = offers.get(id);
  if (offer === undefined) {
    throw new OperatingError("not_found", `Files of model ${id} are not given out here`);
  }
  const list = await offer.list();
  if (name === FILE_LIST) return Response.json(list, { headers: sharedHeaders });
  const file = list.files.find((file) => file.name === name);
  if (file === undefined) throw new OperatingError("not_found", `Model ${id} has no file ${name}`);
  return await respond(context.req.raw, file, offer);
}

const sharedHeaders = {
  "cache-control": "no-cache",
  "cross-origin-resource-policy": "same-origin",
  "x-content-type-options": "nosniff",
};

interface ByteRange {
  readonly start: number;
  /** After the last byte. */
  readonly end: number;
}

async function respond(
  request: Request,
  { name, bytes, sha256 }: ListedFile,
  offer: ModelOffer,
): Promise<Response> {
  const etag = `"${sha256}"`;
  const headers: Record<string, string> = {
    ...sharedHeaders,
    etag,
    "accept-ranges": "bytes",
    "content-type": name.endsWith(".json") ? "application/json" : "application/octet-stream",
  };
  if (request.headers.get("if-none-match")?.includes(etag)) {
    return new Response(null, { status: 304, headers });
  }
  const condition = request.headers.get("if-range");
  const wanted = condition === null || condition === etag ? request.headers.get("range") : null;
  const range = parseRange(wanted, bytes);
  if (range === "unsatisfiable") {
    return new Response(null, {
      status: 416,
      headers: { ...headers, "content-range": `bytes */${bytes}` },
    });
  }
  const { start, end } = range ?? { start: 0, end: bytes };
  headers["content-length"] = String(end - start);
  if (range !== undefined) headers["content-range"] = `bytes ${start}-${end - 1}/${bytes}`;
  const status = range === undefined ? 200 : 206;
  if (request.method === "HEAD") return new Response(null, { status, headers });
  return new Response(streamRange(await offer.open(name), { start, end }), { status, headers });
}

/** One range of bytes (RFC 9110, section 14); undefined = the whole file: several are not given. */
function parseRange(
  header: string | null,
  sizeBytes: number,
): ByteRange | "unsatisfiable" | undefined {
  const parts = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? "");
  if (parts === null || parts[0] === "bytes=-") return undefined;
  const [first, last] = [parts[1]!, parts[2]!];
  if (first !== "" && last !== "" && Number(last) < Number(first)) return undefined;
  const start = first === "" ? Math.max(0, sizeBytes - Number(last)) : Number(first);
  const end = first === "" || last === "" ? sizeBytes : Math.min(Number(last) + 1, sizeBytes);
  return start < end ? { start, end } : "unsatisfiable";
}

/** Reads piece by piece, as the client takes them; closes the file at the end or when it leaves. */
function streamRange(source: ByteSource, { start, end }: ByteRange): ReadableStream<Uint8Array> {
  let at = start;
  return new ReadableStream({
    pull: async (controller) => {
      if (at < end) {
        const length = Math.min(limits.filePieceBytes, end - at);
        controller.enqueue(await source.read(at, length));
        at += length;
      }
      if (at < end) return;
      controller.close();
      source.close();
    },
    cancel: () => source.close(),
  }, { highWaterMark: 0 });
}

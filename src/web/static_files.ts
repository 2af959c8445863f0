/**
 * Serves files of this program that never change while it runs: read once, on first use, known to
 * caches by their hash. What the files are is said by those who mount the routes.
 */
import { type Context, Hono } from "hono";

export interface StaticFile {
  readonly route: string;
  readonly source: URL;
  readonly type: string;
  /** Beside those that all files get. */
  readonly headers?: Readonly<Record<string, string>>;
}

interface Asset {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly etag: string;
}

/** Routes of `files`, to be mounted at the root of the server. */
export function staticRoutes(files: readonly StaticFile[]): Hono {
  const app = new Hono();
  for (const file of files) {
    let asset: Promise<Asset> | undefined;
    app.get(file.route, async (context) => {
      asset ??= readAsset(file.source);
      return respond(context, await asset, file);
    });
  }
  return app;
}

async function readAsset(source: URL): Promise<Asset> {
  const bytes = await Deno.readFile(source);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return { bytes, etag: `"${digest.toHex().slice(0, 32)}"` };
}

function respond(context: Context, asset: Asset, { type, headers }: StaticFile): Response {
  const all = {
    "Content-Type": type,
    "ETag": asset.etag,
    // Ask every time: a new version of the server shows at once, an unchanged file costs a 304.
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    // Pages that want shared memory load only what says who may have it.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    ...headers,
  };
  if (namesTag(context.req.header("If-None-Match"), asset.etag)) {
    return new Response(null, { status: 304, headers: all });
  }
  return new Response(asset.bytes, { headers: all });
}

/** Whether an `If-None-Match` header names the tag, weakly or not. */
function namesTag(header: string | undefined, etag: string): boolean {
  const tags = header?.split(",").map((tag) => tag.trim().replace(/^W\//, ""));
  return tags?.includes(etag) === true || tags?.includes("*") === true;
}

/**
 * Serves the built page: `/` and the two files under `/playground/`. Files are read once, on first
 * use. Knows nothing of the API; the page reaches that over HTTP like any client.
 */
import { type Context, Hono } from "hono";

const files = [
  { route: "/", name: "index.html", type: "text/html; charset=utf-8" },
  { route: "/playground/app.js", name: "app.js", type: "text/javascript; charset=utf-8" },
  { route: "/playground/style.css", name: "style.css", type: "text/css; charset=utf-8" },
] as const;

/** Paths of the page, which hold no data and so need no API key. */
export const playgroundPaths: readonly string[] = files.map((file) => file.route);

/** Only our own script and style run; pictures come from the visitor (data: URLs). */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
].join("; ");

interface Asset {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly etag: string;
}

/** Routes of the page, to be mounted at the root of the server. */
export function playgroundRoutes(): Hono {
  const app = new Hono();
  for (const file of files) {
    let asset: Promise<Asset> | undefined;
    app.get(file.route, async (context) => {
      asset ??= readAsset(file.name);
      return respond(context, await asset, file.type);
    });
  }
  return app;
}

async function readAsset(name: string): Promise<Asset> {
  const bytes = await Deno.readFile(new URL(`./dist/${name}`, import.meta.url));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return { bytes, etag: `"${digest.toHex().slice(0, 32)}"` };
}

function respond(context: Context, asset: Asset, type: string): Response {
  const headers = {
    "Content-Type": type,
    "ETag": asset.etag,
    // Ask every time: a new version of the server shows at once, an unchanged file costs a 304.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": contentSecurityPolicy,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
  };
  const known = context.req.header("If-None-Match")?.split(",").map((tag) =>
    tag.trim().replace(/^W\//, "")
  );
  if (known?.includes(asset.etag) || known?.includes("*")) {
    return new Response(null, { status: 304, headers });
  }
  return new Response(asset.bytes, { headers });
}

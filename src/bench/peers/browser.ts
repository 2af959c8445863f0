/**
 * A headless Chromium with one page that is isolated (shared memory allowed) and served from a few
 * folders and files: where engines for browsers are measured.
 */
import { join, normalize } from "node:path";
import type { Page } from "playwright-core";
import { OperatingError } from "@/errors.ts";

const programs = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The browser's program, from $CHROMIUM or the usual places; undefined when there is none. */
export async function findChromium(): Promise<string | undefined> {
  const named = Deno.env.get("CHROMIUM");
  for (const program of named ? [named] : programs) {
    const found = await Deno.stat(program).then((info) => info.isFile, () => false);
    if (found) return program;
  }
  return undefined;
}

const isolation = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
  "cross-origin-resource-policy": "same-origin",
};

const contentTypes: Readonly<Record<string, string>> = {
  js: "text/javascript",
  mjs: "text/javascript",
  wasm: "application/wasm",
};

export interface PageOptions {
  /** Body of the page at "/"; its module script sets `globalThis.ready` when it can be called. */
  readonly html: string;
  /** Files under "/". */
  readonly folder: string;
  /** More files, by their path on the server. */
  readonly files: Readonly<Record<string, string>>;
  /** Scripts that lie nowhere, by their path on the server. */
  readonly scripts?: Readonly<Record<string, Uint8Array<ArrayBuffer>>>;
  /** Chromium plays a GPU on the processor. */
  readonly softwareGpu?: boolean;
}

const softwareGpuFlags = [
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--enable-features=Vulkan",
];

async function answer(request: Request, options: PageOptions): Promise<Response> {
  const { pathname } = new URL(request.url);
  if (pathname === "/") {
    return new Response(options.html, { headers: { ...isolation, "content-type": "text/html" } });
  }
  const script = options.scripts?.[pathname];
  if (script) {
    return new Response(script, { headers: { ...isolation, "content-type": "text/javascript" } });
  }
  const path = options.files[pathname] ?? join(options.folder, normalize(pathname));
  const type = contentTypes[path.split(".").at(-1)!] ?? "application/octet-stream";
  try {
    const file = await Deno.open(path);
    const length = String((await file.stat()).size);
    return new Response(file.readable, {
      headers: { ...isolation, "content-type": type, "content-length": length },
    });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return new Response("not found", { status: 404, headers: isolation });
  }
}

/** A page that stays open. */
export interface OpenPage extends AsyncDisposable {
  /** Rejects with OperatingError when the page fails meanwhile. */
  ask<T>(use: (page: Page) => Promise<T>): Promise<T>;
}

/** Opens the page, calls `use` with it and closes everything. */
export async function withPage<T>(
  options: PageOptions,
  use: (page: Page) => Promise<T>,
): Promise<T> {
  await using page = await openPage(options);
  return await page.ask(use);
}

export async function openPage(options: PageOptions): Promise<OpenPage> {
  const executablePath = await findChromium();
  if (executablePath === undefined) {
    throw new OperatingError("unavailable", "Cannot open a page: there is no Chromium");
  }
  await using parts = new AsyncDisposableStack();
  const server = parts.use(Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => answer(request, options),
  ));
  // Only here: a benchmark without peers must not need it.
  const { chromium } = await import("playwright-core");
  const gpuFlags = options.softwareGpu ? softwareGpuFlags : [];
  const args = ["--no-sandbox", "--disable-dev-shm-usage", ...gpuFlags];
  const browser = await chromium.launch({ executablePath, args });
  parts.defer(() => browser.close());
  const page = await browser.newPage();
  const failed = failureOf(page);
  failed.catch(() => {}); // whoever asks the page hears of it through the race
  const ask = async <T>(use: (page: Page) => Promise<T>): Promise<T> => {
    const used = use(page);
    used.catch(() => {}); // closing the browser ends what still waits for the page
    return await Promise.race([used, failed]);
  };
  page.setDefaultTimeout(0);
  await page.goto(`http://127.0.0.1:${server.addr.port}/`);
  await ask((page) => page.waitForFunction("globalThis.ready"));
  const kept = parts.move();
  return { ask, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** Rejects when a script of the page throws, or the page crashes. */
function failureOf(page: Page): Promise<never> {
  return new Promise((_, reject) => {
    const fail = (text: string) =>
      reject(new OperatingError("unavailable", `Cannot measure in Chromium: ${text}`));
    page.on("pageerror", (error) => fail(error.message));
    page.on("crash", () => fail("the page crashed"));
  });
}

/** Chromium without a window, for tests of what runs in a browser. */
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { optionalTest, probeCommand } from "./skip.ts";

export const browserProbe = await probeCommand("chromium", {
  commands: ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"],
});

/** Flags with which Chromium plays a GPU on the processor. */
export const softwareGpuFlags = [
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--enable-features=Vulkan",
];

/** What every test's browser is started with; `--disable-gpu` unless other flags are named. */
export async function launchBrowser(
  options: { readonly flags?: readonly string[] } = {},
): Promise<Browser> {
  return await chromium.launch({
    executablePath: browserProbe.command!,
    args: [
      "--no-sandbox",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...(options.flags ?? ["--disable-gpu"]),
    ],
  });
}

/** A page of its own context, whose console is watched. */
export interface WatchedPage {
  readonly page: Page;
  readonly context: BrowserContext;
  /** Errors and warnings of the console, and requests that left `origin`. */
  readonly errors: string[];
}

export async function openPage(
  browser: Browser,
  options: { readonly origin: string; readonly width?: number; readonly dark?: boolean },
): Promise<WatchedPage> {
  const context = await browser.newContext({
    viewport: { width: options.width ?? 1280, height: 800 },
    colorScheme: options.dark ? "dark" : "light",
  });
  const page = await context.newPage();
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (entry) => {
    if (entry.type() === "error" || entry.type() === "warning") errors.push(entry.text());
  });
  page.on("request", (request) => {
    const url = request.url();
    const isLocal = url.startsWith(`${options.origin}/`) || /^(data|blob):/.test(url);
    if (!isLocal) errors.push(`left: ${url}`);
  });
  return { page, context, errors };
}

/** A test that is skipped where there is no browser. */
export function browserTest(name: string, fn: () => Promise<void>): void {
  // The browser's child process and pipes belong to playwright, which Deno takes for leaks.
  const options = { name, needs: [browserProbe], sanitizeOps: false, sanitizeResources: false };
  optionalTest(options, fn);
}

/** The page's switch between server and browser, on the real site around nano. */
import assert from "node:assert/strict";
import type { Browser, Page } from "playwright-core";
import { browserProbe, browserTest, launchBrowser, openPage } from "../browser.ts";
import { type Site, startSite } from "./site.ts";

const running: { browser?: Browser; site?: Site } = {};

Deno.test.beforeAll(async () => {
  if (browserProbe.command === undefined) return;
  running.browser = await launchBrowser();
  running.site = await startSite();
});

Deno.test.afterAll(async () => {
  await running.browser?.close();
  await running.site?.[Symbol.asyncDispose]();
});

interface Visit {
  readonly page: Page;
  readonly site: Site;
  /** Paths of the API that were asked for since the start. */
  asked(path: string): number;
}

async function visit(
  act: (visit: Visit) => Promise<void>,
  options: { allowedErrors?: RegExp; width?: number } = {},
): Promise<void> {
  const { allowedErrors = /$^/, width = 1280 } = options;
  const site = running.site!;
  const watched = await openPage(running.browser!, { origin: site.origin, width });
  site.paths.length = 0;
  try {
    await watched.page.goto(`${site.origin}/`);
    await watched.page.getByText("Ready", { exact: true }).waitFor({ state: "attached" });
    const asked = (path: string) => site.paths.filter((other) => other === path).length;
    await act({ ...watched, site, asked });
    assert.deepEqual(watched.errors.filter((error) => !allowedErrors.test(error)), []);
  } finally {
    site.intercept = () => undefined;
    await watched.context.close();
  }
}

browserTest(
  "page runs nano in this browser: pictures, tiles, speed, and back to the server",
  () =>
    visit(async ({ page, asked }) => {
      assert.equal(await page.evaluate(() => crossOriginIsolated), true);
      await page.getByRole("switch", { name: "Run in this browser" }).check();
      await page.getByText("In this browser", { exact: true }).waitFor();
      await page.getByText(/^WebAssembly: relaxed-simd\+threads, \d+ threads?$/).waitFor();
      await page.getByText("kept for the next visit").waitFor();
      await page.locator("[data-sample=word]").click();
      await page.getByText(/^tree$/).waitFor();
      await page.getByText(/^1 tile, 64 tokens$/).waitFor();
      await page.getByText(/In this browser · first token .* answer tokens/).waitFor();
      await page.getByText(/^[\d.]+ tokens\/s$/).waitFor();
      assert.deepEqual([asked("/v1/chat/completions"), asked("/render")], [0, 0]);
      await page.getByRole("switch", { name: "Run in this browser" }).uncheck();
      await page.getByText("Ready", { exact: true }).waitFor();
      await page.getByRole("button", { name: "Ask again" }).click();
      await page.getByText(/^first token .* answer tokens/).waitFor();
      assert.equal(asked("/v1/chat/completions"), 1);
    }),
);

browserTest(
  "page falls back to the server when files cannot be loaded",
  () =>
    visit(async ({ page, site, asked }) => {
      site.intercept = (request) =>
        request.url.endsWith("/files.json") ? new Response("gone", { status: 404 }) : undefined;
      await page.getByRole("button", { name: "Run nano in this browser" }).click();
      await page.getByText(/^Cannot run the model in this browser: .*status 404/).waitFor();
      await page.locator("[data-sample=number]").click();
      await page.getByText(/^first token .* answer tokens/).waitFor();
      assert.equal(asked("/v1/chat/completions"), 1);
    }, { allowedErrors: /status of 404/ }),
);

browserTest(
  "page shows progress on a phone, and can be told to stop loading",
  () =>
    visit(async ({ page, site }) => {
      const held = Promise.withResolvers<void>();
      // A failed check must not leave the request waiting, and the run with it.
      using _ = { [Symbol.dispose]: () => held.resolve() };
      site.intercept = async (request) => {
        if (request.url.endsWith("/model.safetensors")) await held.promise;
        return undefined;
      };
      await page.getByRole("button", { name: "Run nano in this browser" }).click();
      await page.getByRole("status").getByText("Loading 0 %").waitFor();
      await page.getByRole("button", { name: "Settings" }).click();
      await page.getByText(/^Loading: 0\.0 of 5\.8 MB$/).waitFor();
      await page.getByRole("switch", { name: "Run in this browser" }).uncheck();
      await page.getByText("Ready", { exact: true }).waitFor({ state: "attached" });
      held.resolve();
      const overflow = await page.evaluate(() =>
        document.documentElement.scrollWidth - document.documentElement.clientWidth
      );
      assert.equal(overflow, 0);
    }, { width: 360 }),
);

browserTest("page and model open again when the server is gone", async () => {
  const site = await startSite();
  const { page, context, errors } = await openPage(running.browser!, { origin: site.origin });
  try {
    await page.goto(`${site.origin}/`);
    await page.getByRole("button", { name: "Run nano in this browser" }).click();
    await page.getByText("In this browser", { exact: true }).waitFor();
    await page.evaluate(async () => {
      await navigator.serviceWorker.ready;
      // Kept and in charge, not only registered.
      while (navigator.serviceWorker.controller === null) await new Promise(requestAnimationFrame);
    });
    assert.deepEqual(errors, []);
    await site[Symbol.asyncDispose]();
    await page.reload();
    await page.getByText("Not reachable", { exact: true }).waitFor();
    assert.equal(await page.evaluate(() => crossOriginIsolated), true);
    await page.getByRole("button", { name: "Run the kept model in this browser" }).click();
    await page.getByText("In this browser", { exact: true }).waitFor();
    await page.getByText(/^WebAssembly: relaxed-simd\+threads/).waitFor();
    await page.locator("[data-sample=word]").click();
    await page.getByText(/^tree$/).waitFor();
    const others = errors.filter((error) => !/ERR_CONNECTION_REFUSED|ERR_FAILED/.test(error));
    assert.deepEqual(others, []);
  } finally {
    await context.close();
  }
});

/**
 * The WebGPU kernels in Chromium on its software adapter. It compiles WGSL with another compiler
 * than Deno, which is stricter about uniform control flow, and has other features and limits.
 */
import assert from "node:assert/strict";
import type { Page } from "playwright-core";
import { bundle } from "@/web/bundle.ts";
import { browserTest, launchBrowser, openPage } from "../browser.ts";
import type { ConformanceProgress } from "./browser_conformance.ts";
import { waitFor } from "../patience.ts";

/** The longest case, with the compilation of its kernels, on an idle machine. */
const CASE_MS = 120_000;

const flags = [
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--enable-features=Vulkan",
];

browserTest("webgpu kernels in Chromium agree with the reference", async () => {
  const files = await bundle({ app: new URL("./browser_conformance.ts", import.meta.url) });
  const html = '<!doctype html><link rel="icon" href="data:,"><script type="module" src="app.js">' +
    "</script>";
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
    const isScript = request.url.endsWith("/app.js");
    const type = isScript ? "text/javascript" : "text/html";
    const body = isScript ? files.get("app.js")!.slice() : html;
    return new Response(body, { headers: { "content-type": type } });
  });
  const browser = await launchBrowser({ flags });
  try {
    const origin = `http://127.0.0.1:${server.addr.port}`;
    const { page, errors } = await openPage(browser, { origin });
    page.setDefaultTimeout(0);
    await page.goto(`${origin}/`, { waitUntil: "commit" });
    const { adapter, features, cases, failures } = await resultOf(page);
    assert.deepEqual(failures, [], `on ${adapter}`);
    assert.deepEqual(errors, []);
    assert.ok(features.includes("subgroups"), `features are ${features}`);
    assert.ok(cases > 200, `${cases} cases`);
  } finally {
    await browser.close();
    await server.shutdown();
  }
});

/** Waits as long as cases go on: a slow adapter is no failure. */
async function resultOf(page: Page): Promise<NonNullable<ConformanceProgress["result"]>> {
  let latest: ConformanceProgress = { done: -1 };
  const hasMoved = async () => {
    const now = await page.evaluate(() => {
      return (globalThis as unknown as { conformance?: ConformanceProgress }).conformance;
    });
    if (now === undefined || (now.done === latest.done && !now.result && !now.error)) return false;
    latest = now;
    return true;
  };
  while (latest.result === undefined) {
    assert.ok(await waitFor(CASE_MS, hasMoved), `stands still after ${latest.done} cases`);
    if (latest.error !== undefined) throw new Error(latest.error);
  }
  return latest.result;
}

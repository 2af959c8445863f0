/**
 * The WebGPU kernels in Chromium on its software adapter. It compiles WGSL with another compiler
 * than Deno, which is stricter about uniform control flow, and has other features and limits.
 */
import assert from "node:assert/strict";
import { bundle } from "@/web/bundle.ts";
import { browserTest, launchBrowser, openPage } from "../browser.ts";
import type { BrowserConformance } from "./browser_conformance.ts";

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
    await page.goto(`${origin}/`);
    await page.waitForFunction("globalThis.conformance");
    const { adapter, features, cases, failures } = await page.evaluate(async () => {
      const { conformance } = globalThis as unknown as { conformance: BrowserConformance };
      return await conformance.run();
    });
    assert.deepEqual(failures, [], `on ${adapter}`);
    assert.deepEqual(errors, []);
    assert.ok(features.includes("subgroups"), `features are ${features}`);
    assert.ok(cases > 200, `${cases} cases`);
  } finally {
    await browser.close();
    await server.shutdown();
  }
});

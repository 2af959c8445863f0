/** The example page of docs/browser.md, as it stands there, in a real browser. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { browserTest, launchBrowser, openPage } from "../browser.ts";
import { drawInPage } from "./in_page.ts";
import { startSite } from "./site.ts";

const text = await Deno.readTextFile(new URL("../../docs/browser.md", import.meta.url));

browserTest("example page of the docs answers about a chosen file", async () => {
  const html = /```html\n([\s\S]*?)```/.exec(text)![1]!;
  await using site = await startSite();
  const isolation = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
  };
  site.intercept = (request) =>
    new URL(request.url).pathname === "/example"
      ? new Response(html, { headers: { "content-type": "text/html", ...isolation } })
      : undefined;
  const browser = await launchBrowser();
  try {
    const { page, errors } = await openPage(browser, { origin: site.origin });
    await page.goto(`${site.origin}/example`);
    await page.getByText("Ready: relaxed-simd+threads").waitFor();
    const [url] = await drawInPage(page, [{ word: "tree" }]);
    const buffer = Buffer.from(url!.slice(url!.indexOf(",") + 1), "base64");
    await page.locator("input").setInputFiles([
      { name: "tree.png", mimeType: "image/png", buffer },
    ]);
    await page.getByText(/^tree$/).waitFor();
    assert.deepEqual(errors, []);
  } finally {
    await browser.close();
  }
});

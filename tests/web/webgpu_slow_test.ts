/** The engine in a page on WebGPU, on a GPU that Chromium plays on the processor. */
import assert from "node:assert/strict";
import { browserTest, launchBrowser, openPage, softwareGpuFlags } from "../browser.ts";
import {
  askInPage,
  askServer,
  drawInPage,
  loadInPage,
  type Question,
  stopInPage,
} from "./in_page.ts";
import { startSite } from "./site.ts";

browserTest("page gives the server's greedy text on WebGPU", async () => {
  await using site = await startSite();
  const browser = await launchBrowser({ flags: softwareGpuFlags });
  try {
    const { page, errors } = await openPage(browser, { origin: site.origin });
    await page.goto(`${site.origin}/blank`);
    // A GPU that is the processor is never chosen by itself.
    assert.equal((await loadInPage(page)).description?.backend, "wasm");
    const { description, failure } = await loadInPage(page, { backend: "webgpu" });
    assert.equal(failure, undefined);
    assert.equal(description!.backend, "webgpu");
    assert.match(description!.numericClass, /^webgpu\//);
    const [tree, number] = await drawInPage(page, [{ word: "tree" }, { word: "307" }]);
    const free = { ignore_eos: true, max_completion_tokens: 24 };
    const questions: Question[] = [
      { pictures: [tree!], text: "What word is written in the image?" },
      { pictures: [number!], text: "What number is written in the image?" },
      { pictures: [number!, tree!], text: "Describe.", fields: free },
    ];
    for (const question of questions) {
      const here = await askInPage(page, question);
      const there = await askServer(site.origin, question);
      assert.equal(here.text, there.text);
      assert.deepEqual(here.tokenIds, there.tokenIds);
    }
    assert.equal((await stopInPage(page)).error, "AbortError");
    assert.deepEqual(errors, []);
  } finally {
    await browser.close();
  }
});

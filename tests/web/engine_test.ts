/** The engine in a page of a real browser: the same answers as the server's, and how it loads. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { nanoFolder } from "@/cli/site.ts";
import {
  browserProbe,
  browserTest,
  launchBrowser,
  openPage,
  type WatchedPage,
} from "../browser.ts";
import {
  askInPage,
  askServer,
  drawInPage,
  loadInPage,
  type PageLoadOptions,
  type Question,
  stopInPage,
} from "./in_page.ts";
import { type Site, startSite } from "./site.ts";

/** One browser and one site for all tests of this file, one fresh context for each. */
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

/** Opens a page, and checks at the end that its console stayed clean. */
async function visit(
  act: (visit: WatchedPage & { site: Site }) => Promise<void>,
  { path = "/blank", allowedErrors = /$^/ } = {},
): Promise<void> {
  const site = running.site!;
  const watched = await openPage(running.browser!, { origin: site.origin });
  site.paths.length = 0;
  try {
    await watched.page.goto(site.origin + path);
    await act({ ...watched, site });
    assert.deepEqual(watched.errors.filter((error) => !allowedErrors.test(error)), []);
  } finally {
    site.intercept = () => undefined;
    await watched.context.close();
  }
}

/** Questions of all kinds, greedy and drawn. */
async function questions({ page }: WatchedPage): Promise<Question[]> {
  const [tree, number, shapes, photo] = await drawInPage(page, [
    { word: "tree" },
    { word: "307" },
    { shapes: 5 },
    { word: "lamp", type: "image/jpeg" },
  ]);
  const free = { ignore_eos: true, max_completion_tokens: 40 };
  return [
    { pictures: [tree!], text: "What word is written in the image?" },
    { pictures: [number!], text: "What number is written in the image?" },
    { pictures: [shapes!], text: "How many shapes are in the image?" },
    { pictures: [photo!, tree!], text: "What word is written in the image?", fields: free },
    { pictures: [], text: "What can you do?", fields: free },
    { pictures: [shapes!], text: "Describe.", fields: { ...free, temperature: 1, seed: 7 } },
  ];
}

/** Asks page and server the same. */
async function compare(
  visit: WatchedPage & { site: Site },
  options: { load: PageLoadOptions; isSameClass: boolean },
): Promise<void> {
  const { description, failure } = await loadInPage(visit.page, options.load);
  assert.equal(failure, undefined);
  for (const question of await questions(visit)) {
    const isGreedy = question.fields?.temperature === undefined;
    if (!isGreedy && !options.isSameClass) continue;
    const here = await askInPage(visit.page, question);
    const there = await askServer(visit.site.origin, question);
    assert.equal(here.text, there.text, question.text);
    assert.deepEqual(here.tokenIds, there.tokenIds);
    assert.equal(here.finish, there.finish);
    assert.equal(here.numericClass, description!.numericClass);
    assert.equal(here.numericClass === there.numericClass, options.isSameClass);
    assert.ok(here.chunkCount > 3, "the answer came in parts");
  }
}

browserTest("page gives the server's tokens with a team of threads", () =>
  visit(async (visit) => {
    await compare(visit, { load: { threads: 2 }, isSameClass: true });
    const { description, phases } = await loadInPage(visit.page);
    assert.equal(description!.variant, "relaxed-simd+threads");
    assert.equal(description!.isKept, true);
    assert.deepEqual(phases, ["download", "load"]);
    // Its flags leave this browser without a GPU.
    const refused = await loadInPage(visit.page, { backend: "webgpu" });
    assert.equal(refused.failure?.code, "unavailable");
    assert.match(refused.failure!.message, /webgpu backend/);
  }, { allowedErrors: /WebGPU/ }));

browserTest(
  "page gives the server's greedy text without relaxed SIMD and without threads",
  () =>
    visit(async (visit) => {
      await compare(visit, { load: { variant: "simd-threads" }, isSameClass: false });
      await compare(visit, { load: { variant: "simd" }, isSameClass: false });
    }),
);

browserTest(
  "page without cross-origin isolation runs on one thread and says why",
  () =>
    visit(async ({ page }) => {
      const { description } = await loadInPage(page);
      assert.equal(description!.variant, "simd128");
      assert.equal(description!.threads, 1);
      assert.match(description!.reason, /SharedArrayBuffer|not cross-origin isolated/);
      const [tree] = await drawInPage(page, [{ word: "tree" }]);
      const question = { pictures: [tree!], text: "What word is written in the image?" };
      assert.equal((await askInPage(page, question)).text, "tree");
      const refused = await loadInPage(page, { variant: "relaxed-threads" });
      assert.equal(refused.failure?.code, "unavailable");
      assert.match(refused.failure!.message, /variant relaxed-threads/);
    }, { path: "/plain" }),
);

browserTest("page stops an answer at once, and answers the next", () =>
  visit(async ({ page }) => {
    for (const variant of ["relaxed-threads", "simd"] as const) {
      await loadInPage(page, { variant });
      const stopped = await stopInPage(page);
      assert.deepEqual(stopped, { error: "AbortError", tokensBefore: 3 }, variant);
      const answer = await askInPage(page, {
        pictures: [],
        text: "What?",
        fields: { max_completion_tokens: 4, ignore_eos: true },
      });
      assert.equal(answer.tokenIds.length, 4);
    }
  }));

browserTest(
  "page loads a kept model again although the server is gone",
  () =>
    visit(async ({ page, site }) => {
      const early = await loadInPage(page, { kept: true });
      assert.equal(early.failure?.code, "unavailable");
      await loadInPage(page);
      const files = () => site.paths.filter((path) => path.startsWith("/web/models/"));
      assert.ok(files().length > 8);
      site.paths.length = 0;
      const again = await loadInPage(page);
      assert.equal(again.description!.isKept, true);
      assert.deepEqual(files(), ["/web/models/nano/files.json"]);
      const kept = await loadInPage(page, { kept: true });
      assert.equal(kept.description!.isKept, true);
      // Nothing of the model can be reached, as when the network is gone.
      await page.route("**/web/models/**", (route) => route.abort());
      const offline = await loadInPage(page);
      assert.equal(offline.description!.model, "nano");
      await page.evaluate(async () => {
        const { forgetModel } = await import("/web/flotilla.js" as string);
        await forgetModel("/web/models/nano/");
      });
      const forgotten = await loadInPage(page);
      assert.equal(forgotten.failure?.code, "unavailable");
    }, { allowedErrors: /ERR_FAILED/ }),
);

browserTest(
  "page goes on with a broken download and refuses wrong bytes",
  () =>
    visit(async ({ page, site }) => {
      const ranges: (string | null)[] = [];
      const weights = "/web/models/nano/model.safetensors";
      site.intercept = (request) => {
        if (new URL(request.url).pathname !== weights) return undefined;
        ranges.push(request.headers.get("range"));
        if (ranges.length > 1) return undefined;
        return new Response(new Uint8Array(1_000_000));
      };
      const wrong = await loadInPage(page);
      // The first million bytes are zeros, which only the hash tells; a second download is whole.
      assert.equal(wrong.failure, undefined);
      assert.equal(ranges[0], null);
      assert.match(ranges[1] ?? "", /^bytes=\d+-$/);
      assert.equal(ranges.at(-1), null);
      await page.evaluate(async () => {
        const { forgetModel } = await import("/web/flotilla.js" as string);
        await forgetModel("/web/models/nano/");
      });
      const { size } = await Deno.stat(join(nanoFolder, "model.safetensors"));
      site.intercept = (request) =>
        new URL(request.url).pathname === weights ? new Response(new Uint8Array(size)) : undefined;
      const bad = await loadInPage(page);
      assert.equal(bad.failure?.code, "checkpoint_invalid");
      assert.match(bad.failure!.message, /SHA-256/);
    }, { allowedErrors: /ERR_|net::/ }),
);

browserTest(
  "page runs files that its visitor chose, and says what is wrong with others",
  () =>
    visit(async ({ page }) => {
      await page.setContent("<input type=file multiple>");
      const names = (await Array.fromAsync(Deno.readDir(nanoFolder)))
        .filter((entry) => entry.isFile && entry.name !== "README.md").map(({ name }) => name);
      const load = async (chosen: readonly string[]) => {
        await page.locator("input").setInputFiles(chosen.map((name) => join(nanoFolder, name)));
        return await page.evaluate(async () => {
          const { loadModel } = await import("/web/flotilla.js" as string);
          try {
            const { files } = document.querySelector("input")!;
            const model = await loadModel({ source: files, variant: "simd" });
            (globalThis as { model?: unknown }).model = model;
            return model.description.model;
          } catch (error) {
            return String(error);
          }
        });
      };
      assert.match(await load(["vocab.json"]), /config\.json is not among them/);
      const withoutWeights = names.filter((name) => name !== "model.safetensors");
      assert.match(await load(withoutWeights), /no \*\.safetensors file/);
      assert.equal(await load(names), "model");
      const [tree] = await drawInPage(page, [{ word: "tree" }]);
      const question = { pictures: [tree!], text: "What word is written in the image?" };
      assert.equal((await askInPage(page, question)).text, "tree");
    }),
);

browserTest("page of an insecure origin runs on one thread, with its files in memory", async () => {
  const site = running.site!;
  const origin = site.origin.replace("127.0.0.1", "page.test");
  const flags = ["--disable-gpu", "--host-resolver-rules=MAP page.test 127.0.0.1"];
  const browser = await launchBrowser({ flags });
  try {
    const { page, errors } = await openPage(browser, { origin });
    await page.goto(`${origin}/plain`);
    assert.equal(await page.evaluate(() => isSecureContext), false);
    const { description, failure } = await loadInPage(page);
    assert.equal(failure, undefined);
    assert.equal(description!.variant, "simd128");
    assert.equal(description!.isKept, false);
    const [tree] = await drawInPage(page, [{ word: "tree" }]);
    const question = { pictures: [tree!], text: "What word is written in the image?" };
    assert.equal((await askInPage(page, question)).text, "tree");
    assert.deepEqual(errors, []);
  } finally {
    await browser.close();
  }
});

/** The page in a real browser: Chromium without a window, against the scripted API. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { Browser, Page } from "playwright-core";
import { browserProbe, browserTest, launchBrowser, openPage } from "../../tests/browser.ts";
import { type FakeApi, fakeApi, type FakeApiOptions } from "./fake_api.ts";

interface Visit {
  readonly api: FakeApi;
  readonly page: Page;
  /** What the browser's console and page reported as errors so far. */
  readonly errors: string[];
}

/** One browser for all tests of this file, one fresh context for each. */
const running: { browser?: Browser } = {};

Deno.test.beforeAll(async () => {
  if (browserProbe.command === undefined) return;
  running.browser = await launchBrowser();
});

Deno.test.afterAll(() => running.browser?.close());

/** One visit per test; checks at its end that the console stayed clean. */
async function visit(
  options: FakeApiOptions & { width?: number; allowedErrors?: RegExp },
  act: (visit: Visit) => Promise<void>,
): Promise<void> {
  const api = fakeApi(options);
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, api.app.fetch);
  const origin = `http://127.0.0.1:${server.addr.port}`;
  const width = options.width ?? 1280;
  const { page, context, errors } = await openPage(running.browser!, { origin, width });
  try {
    await page.goto(`${origin}/`);
    await act({ api, page, errors });
    assert.deepEqual(errors.filter((error) => !options.allowedErrors?.test(error)), []);
  } finally {
    await context.close();
    await server.shutdown();
  }
}

browserTest(
  "page asks about a drawn sample when its card is clicked",
  () =>
    visit({}, async ({ api, page }) => {
      await page.getByText("Ready", { exact: true }).waitFor();
      const drawn = await page.locator("[data-sample=word] img").getAttribute("src");
      assert.match(drawn ?? "", /^data:image\/png;base64,/);
      await page.getByRole("button", { name: "Draw another picture: Read a word" }).click();
      const redrawn = await page.locator("[data-sample=word] img").getAttribute("src");
      assert.notEqual(redrawn, drawn);
      await page.locator("[data-sample=word]").click();
      await page.getByText("The word is tree.").waitFor();
      await page.getByText("3 × 2 tiles + overview, 1,792 tokens").waitFor();
      await page.getByText(/first token .* tokens\/s · 128 prompt · 5 answer tokens/).waitFor();
      const messages = JSON.stringify(api.requests[0]?.messages);
      assert.ok(messages.includes(redrawn!) && messages.includes("What word is written"));
      const curl = await page.locator(".request pre").textContent();
      assert.match(curl ?? "", /^curl -N http:\/\/127\.0\.0\.1:\d+\/v1\/chat\/completions/);
      assert.match(curl ?? "", /characters\)/);
    }),
);

browserTest(
  "page sends several chosen files and a second question by keyboard",
  () =>
    visit({}, async ({ api, page }) => {
      const png = await page.evaluate(() => {
        const canvas = document.createElement("canvas");
        canvas.width = 12;
        canvas.height = 7;
        return canvas.toDataURL("image/png");
      });
      const buffer = Buffer.from(png.slice(png.indexOf(",") + 1), "base64");
      await page.getByLabel("Picture files").setInputFiles([
        { name: "one.png", mimeType: "image/png", buffer },
        { name: "two.png", mimeType: "image/png", buffer },
      ]);
      await page.getByRole("button", { name: "Remove two.png" }).waitFor();
      await page.getByLabel("Question", { exact: true }).fill("What?");
      await page.keyboard.press("Enter");
      await page.getByText("The word is tree.").waitFor();
      await page.getByRole("button", { name: "Send" }).waitFor();
      await page.getByLabel("Question", { exact: true }).fill("And");
      await page.keyboard.press("Shift+Enter");
      await page.keyboard.type("now?");
      await page.keyboard.press("Enter");
      await page.getByText("The word is tree.").nth(1).waitFor();
      const first = api.requests[0]?.messages as { content: { type: string }[] }[];
      assert.deepEqual(first[0]!.content.map((part) => part.type), [
        "image_url",
        "image_url",
        "text",
      ]);
      const second = api.requests[1]?.messages as { role: string; content: unknown }[];
      assert.deepEqual(second.map(({ role }) => role), ["user", "assistant", "user"]);
      assert.equal(second[2]!.content, "And\nnow?");
    }),
);

browserTest(
  "page takes pasted pictures and refuses other files",
  () =>
    visit({}, async ({ page }) => {
      const paste = (name: string, type: string) =>
        page.evaluate(async ([name, type]) => {
          const canvas = document.createElement("canvas");
          const bytes = await new Promise<Blob | null>((done) => canvas.toBlob(done));
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File([bytes!], name!, { type: type! }));
          dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
        }, [name, type]);
      await paste("pasted.png", "image/png");
      await page.getByRole("button", { name: "Remove pasted.png" }).waitFor();
      await paste("notes.txt", "text/plain");
      await page.getByText("Cannot use notes.txt (text/plain)").waitFor();
    }),
);

browserTest(
  "page stops an answer at once, by button and by Escape",
  () =>
    visit({}, async ({ api, page }) => {
      for (const [index, stop] of ["button", "key"].entries()) {
        await page.getByLabel("Question", { exact: true }).fill("talk forever");
        await page.getByRole("button", { name: "Send" }).click();
        await page.getByText("and on and on and on").nth(index).waitFor();
        if (stop === "button") await page.getByRole("button", { name: "Stop" }).click();
        else await page.keyboard.press("Escape");
        await page.getByText(/^Stopped/).nth(index).waitFor();
        await page.getByRole("button", { name: "Send" }).waitFor();
      }
      for (let i = 0; i < 200 && api.abandonedCount() < 2; i++) await page.waitForTimeout(10);
      assert.equal(api.abandonedCount(), 2);
    }),
);

browserTest(
  "page shows markup as text and the API's errors in its words",
  () =>
    visit({ allowedErrors: /status of 400/ }, async ({ page }) => {
      await page.getByLabel("Question", { exact: true }).fill("say markup");
      await page.keyboard.press("Enter");
      await page.getByText('<img src=x onerror="document.title=1"> & <b>').waitFor();
      assert.equal(await page.locator(".answer img").count(), 0);
      await page.getByLabel("Question", { exact: true }).fill("refuse");
      await page.keyboard.press("Enter");
      await page.getByText("Prompt of 900 tokens exceeds the context of 512 (messages)").waitFor();
      await page.getByLabel("Question", { exact: true }).fill("break");
      await page.keyboard.press("Enter");
      await page.getByText("The engine lost a worker").waitFor();
    }),
);

browserTest(
  "page sends the settings and folds the thoughts away",
  () =>
    visit({ tokenMs: 250 }, async ({ api, page }) => {
      await page.getByLabel("Temperature").fill("0.5");
      await page.getByLabel("Longest answer, tokens").fill("33");
      await page.getByLabel("Seed").fill("7");
      await page.getByLabel("Think before answering").check();
      await page.getByLabel("System prompt").fill("Be brief.");
      await page.getByLabel("Model").selectOption("large");
      await page.getByLabel("Question", { exact: true }).fill("How many?");
      await page.keyboard.press("Enter");
      await page.getByText(/Reading: \d+ of 128 prompt tokens/).waitFor();
      await page.getByText(/^First look/).waitFor();
      await page.getByText("Seven.", { exact: true }).waitFor();
      assert.equal(await page.getByText(/^First look/).isVisible(), false);
      const { model, temperature, seed, thinking, messages, max_completion_tokens } = api
        .requests[0] as Record<string, unknown>;
      assert.deepEqual({ model, temperature, seed, thinking, max_completion_tokens }, {
        model: "large",
        temperature: 0.5,
        seed: 7,
        thinking: true,
        max_completion_tokens: 33,
      });
      assert.deepEqual((messages as unknown[])[0], { role: "system", content: "Be brief." });
    }),
);

browserTest(
  "page asks for an API key and keeps it in the tab alone",
  () =>
    visit({ apiKey: "secret", allowedErrors: /status of 401/ }, async ({ page }) => {
      await page.getByText("API key needed").waitFor();
      await page.getByLabel("API key", { exact: true }).fill("secret");
      await page.getByRole("button", { name: "Use key" }).click();
      await page.getByText("Ready", { exact: true }).waitFor();
      await page.reload();
      await page.getByText("Ready", { exact: true }).waitFor();
      assert.deepEqual(
        await page.evaluate(() => [Object.values(sessionStorage), localStorage.length]),
        [["secret"], 0],
      );
    }),
);

browserTest("page fits a phone", () =>
  visit({ width: 360 }, async ({ page }) => {
    const overflow = () =>
      page.evaluate(() =>
        document.documentElement.scrollWidth - document.documentElement.clientWidth
      );
    assert.equal(await overflow(), 0);
    await page.locator("[data-sample=shapes]").click();
    await page.getByText("The word is tree.").waitFor();
    assert.equal(await overflow(), 0);
    await page.getByRole("button", { name: "Settings" }).click();
    await page.getByLabel("Temperature").waitFor();
    assert.equal(await overflow(), 0);
    await page.getByRole("button", { name: "Close" }).click();
    assert.equal(await page.getByLabel("Temperature").count(), 0);
  }));

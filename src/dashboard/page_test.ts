/** The cluster page in a real browser, against the real routes around a cluster that takes notes. */
import assert from "node:assert/strict";
import type { Browser, Page } from "playwright-core";
import { browserProbe, browserTest, launchBrowser, openPage } from "../../tests/browser.ts";
import { FakeCluster } from "../../tests/http/fake_cluster.ts";
import { testApp } from "../../tests/http/test_app.ts";
import { dashboardPaths, dashboardRoutes } from "./assets.ts";

interface Visit {
  readonly cluster: FakeCluster;
  readonly page: Page;
}

/** One browser for all tests of this file, one fresh context for each. */
const running: { browser?: Browser } = {};

Deno.test.beforeAll(async () => {
  if (browserProbe.command === undefined) return;
  running.browser = await launchBrowser();
});

Deno.test.afterAll(() => running.browser?.close());

/** The style sheet beneath the page's own. */
const BASE_STYLE = "/playground/style.css";

async function baseStyle(): Promise<Response> {
  const bytes = await Deno.readFile(new URL("../playground/dist/style.css", import.meta.url));
  return new Response(bytes, { headers: { "content-type": "text/css" } });
}

function site(options: { apiKeys?: string[]; alone?: boolean }) {
  const cluster = new FakeCluster();
  const { apiKeys, alone } = options;
  const { app } = testApp({ app: { apiKeys, ...(!alone && { cluster }) } });
  const files = dashboardRoutes();
  const handler = (request: Request) => {
    const { pathname } = new URL(request.url);
    if (pathname === BASE_STYLE) return baseStyle();
    return dashboardPaths.includes(pathname) ? files.fetch(request) : app.fetch(request);
  };
  return { cluster, handler };
}

async function visit(
  options: {
    readonly apiKeys?: string[];
    readonly alone?: boolean;
    readonly width?: number;
    readonly allowedErrors?: RegExp;
  },
  act: (visit: Visit) => Promise<void>,
): Promise<void> {
  const { cluster, handler } = site(options);
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, handler);
  const origin = `http://127.0.0.1:${server.addr.port}`;
  const width = options.width ?? 1280;
  const { page, context, errors } = await openPage(running.browser!, { origin, width });
  try {
    await page.goto(`${origin}/cluster`);
    await act({ cluster, page });
    assert.deepEqual(errors.filter((error) => !options.allowedErrors?.test(error)), []);
  } finally {
    await context.close();
    await server.shutdown();
  }
}

browserTest(
  "cluster page shows nodes, figures and owners, and follows them",
  () =>
    visit({}, async ({ cluster, page }) => {
      await page.getByText("Live", { exact: true }).waitFor();
      await page.getByText("complete", { exact: true }).waitFor();
      const bert = page.getByRole("row", { name: /bert/ });
      await bert.getByText("circuit open").waitFor();
      await page.getByText("Cannot load expert 3 of layer 1: bad sector").waitFor();
      await page.getByText("No shard at dora.example:7070").waitFor();
      await page.getByRole("img", { name: "Owners of 32 experts of layer 0" }).waitFor();
      const owned = page.locator(".map-owned");
      assert.equal(await owned.count(), 32 + 7, "experts with two owners have two cells");
      const title = await page.locator(".map g").first().locator("title").first().textContent();
      assert.match(title ?? "", /^expert 0: anna, bert; 40 tokens\/s, \d+\.\d %$/);
      await page.getByRole("button", { name: /^Layer 3: entropy 0\.890/ }).click();
      await page.getByRole("img", { name: "Owners of 32 experts of layer 3" }).waitFor();
      assert.equal(await page.getByLabel("Layer", { exact: true }).inputValue(), "3");
      cluster.change = {
        ...{ epoch: 8, uncovered: 5 },
        problem: "No live node owns expert 0 of layer 0",
      };
      await page.getByText("New requests are refused: No live node owns expert 0").waitFor();
      await page.getByText("5 missing").waitFor();
      await page.getByText("Not serving").waitFor();
    }),
);

browserTest(
  "cluster page drains when asked twice, and rebalances",
  () =>
    visit({}, async ({ cluster, page }) => {
      await page.getByRole("button", { name: "Drain anna", exact: true }).click();
      assert.deepEqual(cluster.orders, []);
      await page.getByRole("button", { name: "Drain anna, really" }).click();
      await page.getByText("anna gives its experts away").waitFor();
      await page.getByRole("button", { name: "Take again" }).click();
      await page.getByText("carl takes experts again").waitFor();
      await page.getByRole("button", { name: "Rebalance" }).click();
      await page.getByText("The cluster is planned anew").waitFor();
      assert.deepEqual(cluster.orders, ["drain anna", "keep carl", "rebalance"]);
    }),
);

browserTest("cluster page asks for the key, and says when there is no cluster", async () => {
  await visit({ apiKeys: ["k"], allowedErrors: /status of 401/ }, async ({ page }) => {
    await page.getByText("API key needed").waitFor();
    await page.getByLabel("API key").fill("k");
    await page.getByRole("button", { name: "Use key" }).click();
    await page.getByText("Live", { exact: true }).waitFor();
    assert.equal(await page.getByLabel("API key").count(), 0);
  });
  await visit({ alone: true, allowedErrors: /status of 404/ }, async ({ page }) => {
    await page.getByText("This server computes all experts itself").waitFor();
  });
});

browserTest("cluster page fits a phone", () =>
  visit({ width: 360 }, async ({ page }) => {
    await page.getByText("complete", { exact: true }).waitFor();
    await page.getByRole("img", { name: /Owners of 32 experts/ }).waitFor();
    const overflow = await page.evaluate(() =>
      document.documentElement.scrollWidth - document.documentElement.clientWidth
    );
    assert.equal(overflow, 0);
    assert.equal(await page.getByRole("button", { name: "Drain anna" }).isVisible(), true);
  }));

Deno.test("dashboardRoutes() serves a page that loads nothing from elsewhere", async () => {
  const app = dashboardRoutes();
  const known = [...dashboardPaths, BASE_STYLE];
  const response = await app.request("/cluster/");
  assert.match(response.headers.get("Content-Security-Policy") ?? "", /default-src 'none'/);
  for (const [, url] of (await response.text()).matchAll(/(?:src|href)="([^"]+)"/g)) {
    assert.ok(url!.startsWith("data:") || known.includes(url!), url);
  }
  const css = await (await app.request("/cluster/style.css")).text();
  assert.doesNotMatch(css, /@import|url\(/);
  assert.equal((await app.request("/cluster")).headers.get("location"), "/cluster/");
});

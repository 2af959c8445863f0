/** How the page is served. */
import assert from "node:assert/strict";
import { playgroundPaths, playgroundRoutes } from "./assets.ts";

Deno.test("playgroundRoutes() serves every file with type, policy and ETag", async () => {
  const app = playgroundRoutes();
  for (const path of playgroundPaths) {
    const response = await app.request(path);
    assert.equal(response.status, 200);
    assert.match(response.headers.get("Content-Type") ?? "", /charset=utf-8$/);
    assert.match(response.headers.get("Content-Security-Policy") ?? "", /default-src 'none'/);
    assert.ok((await response.text()).length > 300);
    const etag = response.headers.get("ETag") ?? "";
    const again = await app.request(path, { headers: { "If-None-Match": `W/"x", ${etag}` } });
    assert.equal(again.status, 304);
    assert.equal(await again.text(), "");
  }
});

Deno.test("playgroundRoutes() serves a page that loads nothing from elsewhere", async () => {
  const app = playgroundRoutes();
  const html = await (await app.request("/")).text();
  for (const [, url] of html.matchAll(/(?:src|href)="([^"]+)"/g)) {
    assert.ok(url!.startsWith("data:") || playgroundPaths.includes(url!), url);
  }
  const css = await (await app.request("/playground/style.css")).text();
  assert.doesNotMatch(css, /@import|url\(/);
});

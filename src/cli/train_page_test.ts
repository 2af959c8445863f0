import assert from "node:assert/strict";
import { supervisedRecipe } from "@/training/recipes/recipe.ts";
import { RunReport } from "@/training/report/run_report.ts";
import { parseAddress, servePage } from "./train_page.ts";

Deno.test("parseAddress() listens on this machine unless a host is named", () => {
  assert.deepEqual(parseAddress("8090"), { hostname: "127.0.0.1", port: 8090 });
  assert.deepEqual(parseAddress(":0"), { hostname: "127.0.0.1", port: 0 });
  assert.deepEqual(parseAddress("0.0.0.0:80"), { hostname: "0.0.0.0", port: 80 });
  assert.deepEqual(parseAddress("[::1]:80"), { hostname: "::1", port: 80 });
  for (const text of ["", "host", "host:", "1:99999"]) {
    assert.throws(() => parseAddress(text), /expected HOST:PORT/, text);
  }
});

Deno.test("the live page renews its body and loads nothing from elsewhere", async () => {
  const recipe = supervisedRecipe({
    name: "trial",
    purpose: "",
    trainable: ["adapter"],
    data: { mixture: { word: 1 } },
    optimizer: { peakRate: 1e-3 },
    steps: 4,
  });
  const report = new RunReport({ recipe, model: "nano", records: [] });
  const page = servePage(report, "127.0.0.1:0");
  const get = async (path: string) => {
    const response = await fetch(`${page.url}${path}`);
    return { status: response.status, headers: response.headers, text: await response.text() };
  };
  try {
    const whole = await get("");
    assert.match(whole.headers.get("content-security-policy")!, /default-src 'none'/);
    assert.match(whole.text, /No step is done yet/);
    assert.match((await get("live.js")).text, /fetch\("body"\)/);
    report.state = "done";
    assert.match((await get("body")).text, /^<header>.*done/);
    assert.equal((await get("log.jsonl")).status, 404);
  } finally {
    await page.close();
  }
});

/** What a front exports to an OpenTelemetry collector, seen from the collector. */
import assert from "node:assert/strict";
import { fixtureFolder, startDeno } from "../server/server_process.ts";
import { eventually } from "../patience.ts";
import { ShardProcess } from "./shard_process.ts";

Deno.test("a front with OTEL_DENO exports a span per layer with its calls inside", async () => {
  const bodies: string[] = [];
  // Protocol buffers hold their texts as they are: enough to see names and attributes.
  const collector = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    async (request) => {
      const bytes = await request.bytes();
      if (new URL(request.url).pathname === "/v1/traces") bodies.push(latin1(bytes));
      return new Response();
    },
  );
  await using stack = new AsyncDisposableStack();
  stack.defer(() => collector.shutdown());
  const shard = stack.use(await ShardProcess.start("traced"));
  const front = await startDeno(
    [
      ...["run", "--no-check", "--unstable-no-legacy-abort", "--allow-all", "src/main.ts", "serve"],
      ...["--model", `moe=${fixtureFolder("moe")}`, "--threads", "1", "--port", "0"],
      ...["--cluster", shard.address, "--local-experts", "none", "--context", "256"],
    ],
    /on (http:\/\/127\.0\.0\.1:\d+)/,
    {
      OTEL_DENO: "true",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.addr.port}`,
      OTEL_BSP_SCHEDULE_DELAY: "200",
    },
  );
  stack.defer(async () => {
    front.child.kill("SIGTERM");
    await front.child.status;
    await front.output;
  });
  await eventually("it is ready", async () => (await fetch(`${front.address}/readyz`)).ok);
  const response = await fetch(`${front.address}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt: "one two", max_tokens: 4 }),
  });
  assert.equal(response.status, 200, await response.text());
  const names = [
    "flotilla.cluster.layer",
    "flotilla.cluster.call",
    "flotilla.compute_ms",
    "traced",
  ];
  await eventually(
    "spans arrive",
    () => names.every((name) => bodies.some((body) => body.includes(name))),
  );
});

function latin1(bytes: Uint8Array): string {
  return new TextDecoder("latin1").decode(bytes);
}

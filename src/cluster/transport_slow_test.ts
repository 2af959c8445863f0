/** How fast the death and the silence of another process are noticed; needs signals. */
import assert from "node:assert/strict";
import { systemClock } from "@/clock.ts";
import { limits } from "@/limits.ts";
import { identityOf } from "./_peers.ts";
import type { ConnectionEnd } from "./connection.ts";
import { ClusterTransport } from "./transport.ts";

/** Milliseconds from a signal to the other process until the connection has ended, and how. */
async function endAfter(
  signal: "SIGKILL" | "SIGSTOP",
): Promise<{ ms: number; end: ConnectionEnd }> {
  const folder = await Deno.makeTempDir();
  const peer = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--allow-all"]
      .concat(new URL("./transport_bench.ts", import.meta.url).href, "serve", folder),
    stdout: "piped",
  }).spawn();
  let killed = false;
  try {
    const reader = peer.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const { addresses } = JSON.parse((await reader.read()).value!) as { addresses: string[] };
    const transport = new ClusterTransport({
      clock: systemClock,
      identity: () => identityOf("front"),
    });
    const connection = await transport.dial(addresses[0]!);
    const ended = new Promise<ConnectionEnd>((resolve) => {
      connection.attach({ frame: () => {}, closed: resolve });
    });
    await new Promise((resolve) => setTimeout(resolve, 500));
    const startMs = performance.now();
    peer.kill(signal);
    killed = signal === "SIGKILL";
    const end = await ended;
    const ms = performance.now() - startMs;
    await reader.cancel();
    return { ms, end };
  } finally {
    if (!killed) peer.kill("SIGKILL");
    await peer.status;
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a killed process is noticed by its closed socket", async () => {
  const { ms, end } = await endAfter("SIGKILL");
  assert.ok(end.kind === "remote" || end.kind === "failed", end.kind);
  assert.ok(ms < limits.clusterSilenceMs / 2, `${ms} ms`);
});

Deno.test("a stopped process is noticed by its silence", async () => {
  const { ms, end } = await endAfter("SIGSTOP");
  assert.equal(end.kind, "silent");
  const tickMs = limits.clusterHeartbeatMs;
  assert.ok(ms > limits.clusterSilenceMs - 2 * tickMs, `${ms} ms`);
  assert.ok(ms < limits.clusterSilenceMs + 10 * tickMs, `${ms} ms`);
});

import assert from "node:assert/strict";
import { isPrivate, parseAddress } from "./cluster_address.ts";

Deno.test("parseAddress() reads every form", () => {
  assert.deepEqual(parseAddress("node-1.lan:9001"), {
    kind: "tcp",
    host: "node-1.lan",
    port: 9001,
  });
  assert.deepEqual(parseAddress("[fe80::1]:1"), { kind: "tcp", host: "fe80::1", port: 1 });
  assert.deepEqual(parseAddress("unix:/run/a.sock"), { kind: "unix", path: "/run/a.sock" });
  assert.deepEqual(parseAddress("memory:a"), { kind: "memory", name: "memory:a" });
  assert.equal(parseAddress("wss://h/x").kind, "websocket");
});

Deno.test("parseAddress() refuses what it cannot reach", () => {
  for (
    const text of ["", "9001", "host", "host:", ":1", "host:65536", "unix:", "http://h", "a b:1"]
  ) {
    assert.throws(() => parseAddress(text), /Cannot use address/, text);
  }
});

Deno.test("isPrivate() knows loopback by all its names and nothing else", () => {
  const kept = ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "[::ffff:127.0.0.1]:1"]
    .concat("unix:/a", "memory:a", "ws://127.0.0.1:1/", "wss://example.org/", "ws://[::1]:1/");
  for (const text of kept) assert.ok(isPrivate(parseAddress(text)), text);
  const exposed = ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "127.0.0.1.example.org:1", "ws://10.0.0.1/"]
    .concat("localhost.example.org:1", "1270.0.0.1:1");
  for (const text of exposed) assert.ok(!isPrivate(parseAddress(text)), text);
});

import assert from "node:assert/strict";
import { isNatsAddress, parseNatsAddress } from "./nats_address.ts";

Deno.test("parseNatsAddress() reads servers, credentials and cluster", () => {
  const plain = { user: undefined, password: undefined, token: undefined, tls: false };
  const table: [string, Partial<ReturnType<typeof parseNatsAddress>>][] = [
    ["nats://10.0.0.1", { servers: ["10.0.0.1:4222"], cluster: undefined }],
    ["nats://broker:4333/east", { servers: ["broker:4333"], cluster: "east" }],
    ["nats://a:1,b:2,c/east", { servers: ["a:1", "b:2", "c:4222"], cluster: "east" }],
    ["nats://a,nats://b:2", { servers: ["a:4222", "b:2"], cluster: undefined }],
    ["nats://me:p%40ss@a", { servers: ["a:4222"], user: "me", password: "p@ss" }],
    ["nats://secret@a", { servers: ["a:4222"], token: "secret" }],
    ["tls://[::1]:4222", { servers: ["[::1]:4222"], tls: true }],
  ];
  for (const [text, expected] of table) {
    const all = { ...plain, cluster: undefined, ...expected };
    assert.deepEqual(parseNatsAddress(text), all, text);
  }
});

Deno.test("parseNatsAddress() refuses what is none, without repeating it", () => {
  const bad = [
    "10.0.0.1:4222",
    "nats://",
    "nats://a/b/c",
    "nats://a?x=1",
    "nats://u:%zz@a",
    "nats://a,",
  ];
  for (const text of bad) {
    assert.throws(() => parseNatsAddress(text), /^OperatingError: Cannot use this NATS/, text);
  }
  assert.ok(isNatsAddress("nats://a") && isNatsAddress("tls://a") && !isNatsAddress("a:4222"));
});

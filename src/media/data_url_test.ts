import { deepStrictEqual, ok, strictEqual, throws } from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { decodeDataUrl, isDataUrl } from "./data_url.ts";

const BYTES_MAX = 1 << 20;

function text(url: string): string {
  return new TextDecoder().decode(decodeDataUrl(url, BYTES_MAX));
}

function fails(url: string, code: string, message: RegExp): void {
  throws(() => decodeDataUrl(url, 8), (error) => {
    ok(error instanceof OperatingError);
    strictEqual(error.code, code);
    ok(message.test(error.message), error.message);
    return true;
  });
}

Deno.test("decodeDataUrl() reads base64 with and without MIME type, in any case", () => {
  strictEqual(text("data:image/png;base64,aGVsbG8="), "hello");
  strictEqual(text("DATA:IMAGE/PNG;BASE64,aGVsbG8="), "hello");
  strictEqual(text("data:;base64,aGVsbG8"), "hello");
  strictEqual(text("data:image/png;charset=x; base64 ,aGVs\n bG8="), "hello");
  strictEqual(text("data:;base64,aGVsbG8%3D"), "hello");
  deepStrictEqual([...decodeDataUrl("data:;base64,-_8=", 8)], [0xfb, 0xff]);
});

Deno.test("decodeDataUrl() reads percent-encoding", () => {
  strictEqual(text("data:,a%20b%2c"), "a b,");
  strictEqual(text("data:text/plain;charset=utf-8,é%C3%A9"), "éé");
  deepStrictEqual([...decodeDataUrl("data:image/png,%89PNG%FF", 8)], [0x89, 80, 78, 71, 0xff]);
});

Deno.test("decodeDataUrl() says what is wrong", () => {
  fails("data:image/png;base64", "invalid_media", /no comma/);
  fails("data:image/png;base64,", "invalid_media", /it is empty$/);
  fails("data:;base64,@@@@", "invalid_media", /base64 is malformed$/);
  fails("data:;base64,aGVsbG8=x", "invalid_media", /base64 is malformed$/);
  fails("data:,%4", "invalid_media", /percent-encoding is malformed at 0$/);
  fails("data:,123456789", "payload_too_large", /9 bytes exceed 8$/);
  fails("data:;base64," + "A".repeat(4000), "payload_too_large", /3000 bytes exceed 8$/);
});

Deno.test("decodeDataUrl() takes several megabytes quickly", () => {
  const bytes = new Uint8Array(12 << 20).fill(7);
  const url = `data:image/png;base64,${bytes.toBase64()}`;
  const started = performance.now();
  strictEqual(decodeDataUrl(url, 16 << 20).length, bytes.length);
  ok(performance.now() - started < 20_000);
});

Deno.test("isDataUrl() looks at the scheme only", () => {
  strictEqual(isDataUrl("dAtA:,"), true);
  strictEqual(isDataUrl("https://example.com/data:"), false);
});

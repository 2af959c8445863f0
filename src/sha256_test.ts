import { deepEqual, equal } from "node:assert/strict";
import { createHash } from "node:crypto";
import { Sha256, sha256 } from "./sha256.ts";

const hex = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

Deno.test("Sha256 agrees with the runtime at every length around a block's end", async () => {
  const bytes = Uint8Array.from({ length: 300 }, (_, index) => index * 7 + 3);
  for (let length = 0; length <= bytes.length; length++) {
    const part = bytes.subarray(0, length);
    equal(new Sha256().update(part).digest().toHex(), hex(part));
  }
  equal((await sha256(bytes)).toHex(), hex(bytes));
});

Deno.test("Sha256 does not depend on how the bytes are parted", () => {
  const bytes = Uint8Array.from({ length: 5000 }, (_, index) => index ** 2);
  const whole = new Sha256().update(bytes).digest();
  for (const size of [1, 3, 63, 64, 65, 127, 1000]) {
    const hash = new Sha256();
    for (let at = 0; at < bytes.length; at += size) hash.update(bytes.subarray(at, at + size));
    deepEqual(hash.digest(), whole);
  }
});

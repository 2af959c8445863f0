import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createFrame, SEAL_BYTES, writeChecksum } from "./frame.ts";
import { FrameSeal } from "./frame_seal.ts";
import { ProtocolError } from "./protocol_error.ts";

const key = Uint8Array.from({ length: 32 }, (_, i) => 7 * i);

function frame(bodyBytes: number) {
  const made = createFrame("call", bodyBytes);
  made.body.fill(9);
  writeChecksum(made);
  return made;
}

Deno.test("seal() is HMAC-SHA256 over frame and counter", () => {
  const seal = new FrameSeal(key);
  for (let count = 0; count < 3; count++) {
    const made = frame(100 * count);
    const sealed = seal.seal(made);
    const counter = new Uint8Array(8);
    counter[0] = count;
    const expected = createHmac("sha256", key).update(made.bytes).update(counter).digest();
    const code = sealed.subarray(made.bytes.length);
    assert.deepEqual([...code], [...expected.subarray(0, SEAL_BYTES)]);
  }
});

Deno.test("verify() takes frames in their order only, and with their code only", () => {
  const sender = new FrameSeal(key);
  const sealed = [1, 2, 3].map((bytes) => sender.seal(frame(bytes)));
  const bytesOf = (all: Uint8Array<ArrayBuffer>) => {
    const copy = all.slice();
    return copy.subarray(0, copy.length - SEAL_BYTES);
  };
  const receiver = new FrameSeal(key);
  for (const all of sealed) receiver.verify(bytesOf(all));
  assert.throws(() => receiver.verify(bytesOf(sealed[2]!)), ProtocolError);
  assert.throws(() => new FrameSeal(key).verify(bytesOf(sealed[1]!)), ProtocolError);
  assert.throws(() => new FrameSeal(key).verify(sealed[0]!.slice()), ProtocolError);
  const other = new FrameSeal(key.map((byte) => byte ^ 1));
  assert.throws(() => other.verify(bytesOf(sealed[0]!)), ProtocolError);
});

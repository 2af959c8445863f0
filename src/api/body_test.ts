import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { readJson } from "./body.ts";

const bounds = { sizeBytesMax: 1000, depthMax: 3, valuesMax: 20 };

function request(body: BodyInit, headers: Record<string, string> = {}): Request {
  return new Request("http://localhost/", {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body,
  });
}

async function refusal(body: BodyInit, headers?: Record<string, string>): Promise<string> {
  try {
    await readJson(request(body, headers), { bounds });
  } catch (error) {
    assert.ok(error instanceof OperatingError, String(error));
    return error.code;
  }
  return "accepted";
}

Deno.test("readJson() returns the value of any JSON body", async () => {
  for (const text of ["5", '"a"', "null", '{"a":[1,{"b":"\\"[{,\\\\"}]}', ' [1, "é🎉"] ']) {
    assert.deepEqual(await readJson(request(text), { bounds }), JSON.parse(text));
  }
  for (
    const type of ["application/json; charset=utf-8", "Application/JSON", "application/a+json"]
  ) {
    assert.equal(await readJson(request("1", { "content-type": type }), { bounds }), 1);
  }
});

Deno.test("readJson() counts depth and values outside of strings only", async () => {
  assert.equal(await refusal("[[[1]]]"), "accepted");
  assert.equal(await refusal("[[[[1]]]]"), "invalid_request");
  assert.equal(await refusal('[{"a":[{}]}]'), "invalid_request");
  assert.equal(
    await refusal(JSON.stringify(["[[[[[[".repeat(20), "a\\", '"', '\\"[[[['])),
    "accepted",
  );
  assert.equal(await refusal(JSON.stringify([",".repeat(500)])), "accepted");
  assert.equal(await refusal(JSON.stringify(new Array(20).fill(1))), "accepted");
  assert.equal(await refusal(JSON.stringify(new Array(21).fill(1))), "payload_too_large");
});

Deno.test("readJson() refuses what is not JSON", async () => {
  for (const text of ["", " ", "{", '"open', '"open\\"', "[1,]", "NaN", "{'a':1}", "]]]]"]) {
    assert.equal(await refusal(text), "invalid_request", text);
  }
  assert.equal(await refusal(new Uint8Array([0x22, 0xc3, 0x22])), "invalid_request");
});

Deno.test("readJson() refuses bodies by size, type and encoding", async () => {
  assert.equal(await refusal(JSON.stringify("x".repeat(997))), "accepted");
  assert.equal(await refusal(JSON.stringify("x".repeat(1000))), "payload_too_large");
  assert.equal(await refusal("1", { "content-length": "1001" }), "payload_too_large");
  assert.equal(await refusal("1", { "content-type": "text/json" }), "unsupported_media_type");
  assert.equal(await refusal("1", { "content-encoding": "br" }), "unsupported_media_type");
});

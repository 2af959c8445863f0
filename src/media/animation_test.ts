import { rejects, strictEqual } from "node:assert/strict";
import type { OperatingError } from "@/errors.ts";
import { readGoldenFile } from "./_golden.ts";
import { containerOf, prepareAnimation } from "./animation.ts";
import { inlineCodec } from "./codec.ts";

const bmp = readGoldenFile("image_decode/rgb.bmp");

Deno.test("containerOf() goes by the signature and never picks a playlist", () => {
  const text = (value: string) => new TextEncoder().encode(value);
  strictEqual(containerOf(text("\0\0\0\x20ftypisom")), "mov");
  strictEqual(containerOf(Uint8Array.of(0x1a, 0x45, 0xdf, 0xa3, 0)), "matroska");
  strictEqual(containerOf(text("#EXTM3U\nfile:///etc/passwd")), undefined);
  strictEqual(containerOf(text("ffconcat version 1.0")), undefined);
  strictEqual(containerOf(new Uint8Array()), undefined);
  strictEqual(containerOf(bmp), undefined);
});

Deno.test("prepareAnimation() refuses the containers that only ffmpeg reads", async () => {
  const codec = inlineCodec();
  const options = { codec, field: "video" };
  const mp4 = new TextEncoder().encode("\0\0\0\x20ftypisom");
  await rejects(prepareAnimation(mp4, { count: 4, tileSize: 8 }, options), (error) => {
    const { code, field } = error as OperatingError;
    return code === "invalid_media" && field === "video";
  });
  codec.close();
});

import { deepStrictEqual, ok, throws } from "node:assert/strict";
import { initSync, pictureFromRgb } from "../../wasm/codec/codec.js";
import { seededRandom } from "@/random.ts";
import { readGoldenPixels } from "./_golden.ts";
import { compileCodecModule } from "./codec_module.ts";
import type { RgbImage } from "./image.ts";
import { resizeBicubic } from "./resize.ts";

/** The codec module's resampler. */
function resizeInModule(image: RgbImage, width: number, height: number): RgbImage {
  using picture = pictureFromRgb(image.width, image.height, image.data);
  using resized = picture.resize(width, height);
  return { width: resized.width, height: resized.height, data: resized.data() };
}

Deno.test("resizeBicubic() and the codec module equal Pillow bit for bit", async () => {
  initSync({ module: await compileCodecModule() });
  const goldens = readGoldenPixels("resize_cases.safetensors");
  let cases = 0;
  for (const [name, input] of goldens) {
    if (!name.startsWith("in_")) continue;
    const expected = goldens.get(name.replace("in_", "out_"))!;
    deepStrictEqual(resizeBicubic(input, expected.width, expected.height), expected, name);
    deepStrictEqual(resizeInModule(input, expected.width, expected.height), expected, name);
    cases += 1;
  }
  ok(cases > 5, `${cases} cases`);
});

Deno.test("the codec module's resize equals the reference on random shapes of noise", async () => {
  initSync({ module: await compileCodecModule() });
  const random = seededRandom(7);
  const side = (max: number) => 1 + Math.floor(random() * max);
  for (let round = 0; round < 60; round++) {
    const [width, height] = [side(90), side(90)];
    const data = Uint8Array.from({ length: width * height * 3 }, () => random() * 256);
    const [outWidth, outHeight] = [side(120), side(120)];
    const image = { width, height, data };
    deepStrictEqual(
      resizeInModule(image, outWidth, outHeight),
      resizeBicubic(image, outWidth, outHeight),
      `${width}x${height} to ${outWidth}x${outHeight}`,
    );
  }
});

Deno.test("resizeBicubic() refuses pixels that do not match the size", () => {
  throws(() => resizeBicubic({ width: 2, height: 2, data: new Uint8Array(3) }, 1, 1));
});

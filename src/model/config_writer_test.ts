import assert from "node:assert/strict";
import { readModelConfig } from "./config.ts";
import { writeModelConfig } from "./config_writer.ts";

const folders = ["models/nano", "tests/fixtures/model/dense", "tests/fixtures/model/moe"];

for (const folder of folders) {
  Deno.test(`what writeModelConfig() writes of ${folder} reads back as it was`, async () => {
    const text = (name: string) =>
      Deno.readTextFile(new URL(`../../${folder}/${name}`, import.meta.url));
    const before = {
      config: await text("config.json"),
      preprocessor: await text("preprocessor_config.json"),
    };
    const parse = (texts: typeof before) =>
      readModelConfig({
        config: JSON.parse(texts.config),
        preprocessor: JSON.parse(texts.preprocessor),
      });
    const config = parse(before);
    assert.deepEqual(parse(writeModelConfig(config, { before })), config);
    const tokenIds = { end: 5, padding: 3 };
    const alone = parse(writeModelConfig(config, { tokenIds }));
    assert.deepEqual(alone, { ...config, decoder: { ...config.decoder, endTokenIds: [3, 5] } });
  });
}

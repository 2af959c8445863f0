/** The module's API without a browser: other workers than a page's run the same scripts. */
import assert from "node:assert/strict";
import { basename, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import OpenAI from "openai";
import { loadModel, type LocalModel, OperatingError } from "@/web/flotilla.ts";
import { inTemporaryFolder } from "../temporary_folder.ts";
import { filesUnder, repositoryRoot } from "../tidy/source_files.ts";
import { startSite } from "./site.ts";

Deno.test({
  name: "client library runs on the engine in place of the network",
  // Workers of workers end with the process, which Deno takes for leaks.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    await using site = await startSite();
    await inTemporaryFolder(async (folder) => {
      await copyAssets(folder);
      const model = await loadModel({
        source: `${site.origin}/web/models/nano`,
        assets: pathToFileURL(`${folder}/`),
        threads: 1,
      });
      try {
        await useModel(model);
      } finally {
        model.close();
      }
    });
  },
});

/** The layout that docs/browser.md tells for static hosts. */
async function copyAssets(folder: string): Promise<void> {
  const copy = async (from: string, to: string) => {
    await Deno.mkdir(dirname(join(folder, to)), { recursive: true });
    await Deno.copyFile(join(repositoryRoot, from), join(folder, to));
  };
  for (const path of filesUnder("src/web/dist")) await copy(path, basename(path));
  for (const path of filesUnder("wasm")) await copy(path, path);
}

async function useModel(model: LocalModel): Promise<void> {
  assert.equal(model.description.isKept, false);
  const client = new OpenAI({
    baseURL: "http://page/v1",
    apiKey: "none",
    fetch: model.fetch,
    maxRetries: 0,
  });
  const models = await client.models.list();
  assert.deepEqual(models.data.map(({ id }) => id), ["nano"]);
  const messages = [{ role: "user" as const, content: "What can you do?" }];
  const options = { model: "nano", messages, max_completion_tokens: 12, temperature: 0 };
  const whole = await client.chat.completions.create(options);
  let text = "";
  for await (
    const chunk of await client.chat.completions.create({ ...options, stream: true })
  ) {
    text += chunk.choices[0]?.delta.content ?? "";
  }
  assert.ok(text.length > 0);
  assert.equal(text, whole.choices[0]!.message.content);
  const wrong = model.chat([{ role: "user", content: "?" }], { temperature: 9 });
  await assert.rejects(
    wrong.next(),
    (error) =>
      error instanceof OperatingError && error.code === "invalid_request" &&
      error.field === "temperature",
  );
  const running = model.chat(messages, { ignore_eos: true });
  await running.next();
  model.close();
  await assert.rejects(async () => {
    for await (const _ of running);
  }, /the model was closed/);
  await assert.rejects(model.fetch("/v1/models"), /the model was closed/);
}

/** Golden prompts: recorded conversations to token ids, exact. */
import { dirname, join } from "node:path";
import { createHash } from "node:crypto";
import { type Message, NO_THINKING } from "@/chat/message.ts";
import { encodePrompt } from "@/chat/prompt.ts";
import { findPromptTokens } from "@/chat/served_model.ts";
import { readGrammar, renderChat } from "@/chat/template.ts";
import { loadTokenizer } from "@/tokenizer/tokenizer_folder.ts";
import { findFixtures, type Fixture, readJson } from "./parity_fixtures.ts";
import { ParityCheck, type ParityRow } from "./parity_report.ts";

interface PromptCase {
  readonly messages: readonly {
    readonly role: Message["role"];
    readonly content: readonly { readonly type: "text" | "image"; readonly text?: string }[];
  }[];
  readonly tiles_per_image: readonly number[];
  readonly tokens_per_tile: number;
  readonly prompt_sha256: string;
  readonly ids: readonly number[] | null;
  readonly n_ids: number;
}

/** The tokenizer of the same set: its own folder, or that of any checkpoint beside it. */
async function tokenizerFolder(fixture: Fixture): Promise<string> {
  const root = dirname(fixture.path);
  const beside = await findFixtures(root);
  const found = beside.find((item) => item.kind === "tokenizer");
  const model = beside.find((item) => item.kind === "model");
  if (found) return dirname(found.path);
  if (model) return join(dirname(model.path), "..");
  throw new RangeError(`No tokenizer beside ${fixture.name}`);
}

async function chatTemplate(fixture: Fixture): Promise<string | undefined> {
  const model = (await findFixtures(dirname(fixture.path))).find((item) => item.kind === "model");
  if (!model) return undefined;
  return await Deno.readTextFile(join(dirname(model.path), "..", "chat_template.jinja"));
}

export async function promptParity(fixture: Fixture): Promise<ParityRow[]> {
  const tokenizer = await loadTokenizer(await tokenizerFolder(fixture));
  const grammar = readGrammar(await chatTemplate(fixture));
  const promptTokens = findPromptTokens(tokenizer);
  const check = new ParityCheck(fixture.name, "prompt ids");
  for (const [index, item] of (await readJson<PromptCase[]>(fixture.path)).entries()) {
    const messages = item.messages.map(({ role, content }): Message => ({
      role,
      parts: content.map((part) =>
        part.type === "image"
          ? { type: "image", url: "data:,", detail: "auto", field: "" }
          : { type: "text", text: part.text ?? "" }
      ),
    }));
    const tokenCounts = item.tiles_per_image.map((tiles) => [tiles * item.tokens_per_tile]);
    const pieces = renderChat(messages, { grammar, thinking: NO_THINKING, tokenCounts });
    const { ids } = encodePrompt(pieces, { tokenizer, promptTokens });
    const hash = createHash("sha256").update(tokenizer.decode(ids)).digest("hex");
    const ok = ids.length === item.n_ids && hash === item.prompt_sha256 &&
      (item.ids === null || ids.join() === item.ids.join());
    check.record(`case ${index}`, ok, `${ids.length} ids, expected ${item.n_ids}`);
  }
  return [check.row()];
}

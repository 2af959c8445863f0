/** The text side of a model folder that is trained or asked: tokenizer, prompt grammar, encoder. */
import { join } from "node:path";
import { findPromptTokens, type PromptTokens } from "@/chat/served_model.ts";
import { readGrammar } from "@/chat/template.ts";
import { type ModelConfig, tokensPerTile } from "@/model/config.ts";
import { Tokenizer } from "@/tokenizer/tokenizer.ts";
import { ConversationEncoder } from "./conversation_encoder.ts";

export interface ModelText {
  readonly tokenizer: Tokenizer;
  readonly promptTokens: PromptTokens;
  readonly encoder: ConversationEncoder;
}

/**
 * Reads the text files of a model folder; `withCues`: encoded samples bring cues. Throws
 * OperatingError for the files of the tokenizer.
 */
export async function openModelText(
  folder: string,
  config: ModelConfig,
  { withCues = false }: { withCues?: boolean } = {},
): Promise<ModelText> {
  const text = (name: string) => Deno.readTextFile(join(folder, name)).catch(() => undefined);
  const tokenizer = await Tokenizer.load(text);
  const promptTokens = findPromptTokens(tokenizer);
  const { tileSize, maxTiles, thumbnail } = config.preprocess;
  const encoder = new ConversationEncoder({
    tokenizer,
    promptTokens,
    grammar: readGrammar(await text("chat_template.jinja")),
    tokensPerTile: tokensPerTile(config),
    tiling: { tileSize, maxTiles, thumbnail, applyOrientation: false },
    ...withCues && { cuePatchSize: config.vision.patchSize },
  });
  return { tokenizer, promptTokens, encoder };
}

/** Opens the draft model of a served one: same backend, same tokenizer, its own KV cache. */
import { createHash } from "node:crypto";
import type { EngineOptions } from "@/engine/engine.ts";
import { kvPageBytes } from "@/engine/runner.ts";
import { OperatingError } from "@/errors.ts";
import type { KvFormat } from "@/kernels/backend.ts";
import { limits } from "@/limits.ts";
import type { LoadedModel } from "@/model/load.ts";
import type { Tokenizer } from "@/tokenizer/tokenizer.ts";
import { loadTokenizer } from "@/tokenizer/tokenizer_folder.ts";
import type { FileFolder } from "@/weights/source.ts";
import { diskFolder } from "@/weights/disk_folder.ts";

/** Contexts that the draft's KV cache holds, unless they take too many bytes. */
const CONTEXTS = 4;

/**
 * Loads the draft model, if a folder is named. Throws OperatingError("checkpoint_invalid") when its tokenizer gives other
 * ids than the served model's: its guesses would mean nothing.
 */
export async function openDraft(args: {
  folder: string | undefined;
  load: (folder: FileFolder) => Promise<LoadedModel>;
  tokenizer: Tokenizer;
  kvFormat: KvFormat;
}): Promise<EngineOptions["draft"]> {
  const { folder, load, tokenizer, kvFormat: format } = args;
  if (folder === undefined) return undefined;
  const own = await loadTokenizer(folder);
  if (vocabularyHash(own) !== vocabularyHash(tokenizer)) {
    throw new OperatingError(
      "checkpoint_invalid",
      `Cannot draft with ${folder}: its vocabulary of ${own.size} tokens differs from that of the ` +
        `served model (${tokenizer.size} tokens)`,
    );
  }
  const { model } = await load(diskFolder(folder));
  const pageTokens = limits.kvPageTokens;
  const contextPages = Math.ceil(model.contextTokensMax / pageTokens);
  const pageBytes = kvPageBytes(model.kvShape, { format, pageTokens });
  const affordable = Math.floor(limits.draftKvBytesMax / pageBytes);
  const pages = Math.max(contextPages, Math.min(CONTEXTS * contextPages, affordable));
  return { model, kv: { format, pages } };
}

/** What every id means. */
function vocabularyHash(tokenizer: Tokenizer): string {
  const hash = createHash("sha256");
  for (let id = 0; id < tokenizer.size; id++) {
    const bytes = tokenizer.tokenBytes(id);
    hash.update(`${bytes.length} ${tokenizer.isSpecial(id)} `).update(bytes);
  }
  return hash.digest("hex");
}

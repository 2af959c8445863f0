/**
 * Writes a tokenizer in the layout of Hugging Face, so that other software can load it too. The
 * counterpart of `tokenizer_files.ts`; does not touch the disk.
 */
import { QWEN2_PATTERN } from "./pre_tokenizer.ts";
import { TOKENIZER_FILES, type TokenizerDefinition } from "./tokenizer_files.ts";

/** The files of a checkpoint folder, by name, from which `readDefinition` gives the same again. */
export function writeFiles(definition: TokenizerDefinition): Record<string, string> {
  const vocabulary = Object.fromEntries(
    [...definition.vocabulary].sort(([, a], [, b]) => a - b),
  );
  const addedTokens = definition.addedTokens.map(({ id, content, special, normalized }) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: normalized ?? false,
    special,
  }));
  const spellings = new Map([...definition.vocabulary].map(([spelling, id]) => [id, spelling]));
  for (const { id, content } of definition.addedTokens) spellings.set(id, content);
  const merges = definition.merges.map(({ left, right }) => {
    return [spellings.get(left)!, spellings.get(right)!] as const;
  });
  const mergeLines = merges.map(([left, right]) => `${left} ${right}\n`);
  return {
    [TOKENIZER_FILES.tokenizer]: JSON.stringify(
      tokenizerJson(definition, { vocab: vocabulary, merges, addedTokens }),
    ),
    [TOKENIZER_FILES.vocabulary]: JSON.stringify(vocabulary),
    [TOKENIZER_FILES.merges]: `#version: 0.2\n${mergeLines.join("")}`,
    [TOKENIZER_FILES.addedTokens]: json(
      Object.fromEntries(addedTokens.map(({ id, content }) => [content, id])),
    ),
    [TOKENIZER_FILES.config]: json(configJson(addedTokens)),
  };
}

function tokenizerJson(
  { normalization }: TokenizerDefinition,
  { vocab, merges, addedTokens }: Record<"vocab" | "merges" | "addedTokens", unknown>,
) {
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: addedTokens,
    normalizer: normalization === "NFC" ? { type: "NFC" } : null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex: QWEN2_PATTERN }, behavior: "Isolated", invert: false },
        { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
      ],
    },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges,
    },
  };
}

function configJson(addedTokens: readonly { id: number; content: string }[]) {
  const nameIfPresent = (content: string) =>
    addedTokens.some((token) => token.content === content) ? content : null;
  return {
    add_bos_token: false,
    add_prefix_space: false,
    added_tokens_decoder: Object.fromEntries(addedTokens.map(({ id, ...token }) => [id, token])),
    bos_token: null,
    clean_up_tokenization_spaces: false,
    eos_token: nameIfPresent("<|im_end|>"),
    errors: "replace",
    pad_token: nameIfPresent("<|endoftext|>"),
    split_special_tokens: false,
    tokenizer_class: "Qwen2Tokenizer",
    unk_token: null,
  };
}

function json(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

/**
 * The tokenizer files of a checkpoint folder in Hugging Face layout: what they must hold and how
 * they combine to one definition. Does not write them (`tokenizer_writer.ts`) and does not touch
 * the disk.
 */
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import type { AddedToken } from "./added_tokens.ts";
import type { Merge } from "./bpe.ts";
import { BYTE_SPELLINGS } from "./byte_level.ts";
import { QWEN2_PATTERN } from "./pre_tokenizer.ts";

/** Parsed contents of the files, by what they are; absent files are left out. */
export interface TokenizerParts {
  /** `tokenizer.json`; takes precedence over `vocab` and `merges`. */
  tokenizer?: unknown;
  /** `vocab.json` */
  vocabulary?: unknown;
  /** `merges.txt` */
  merges?: string;
  /** `added_tokens.json` */
  addedTokens?: unknown;
  /** `tokenizer_config.json` */
  config?: unknown;
  /** `special_tokens_map.json` */
  specialTokens?: unknown;
}

/** What defines a tokenizer, checked for consistency. */
export interface TokenizerDefinition {
  /** Byte-level spelling -> id, without the added tokens. */
  vocabulary: ReadonlyMap<string, number>;
  /** By id, best first. */
  merges: readonly Merge[];
  addedTokens: readonly AddedToken[];
  normalization: "NFC" | "none";
}

type JsonObject = Record<string, unknown>;

/** Name of each part's file in a checkpoint folder. */
export const TOKENIZER_FILES = {
  tokenizer: "tokenizer.json",
  vocabulary: "vocab.json",
  merges: "merges.txt",
  addedTokens: "added_tokens.json",
  config: "tokenizer_config.json",
  specialTokens: "special_tokens_map.json",
} as const satisfies Record<keyof TokenizerParts, string>;

const TOKENIZER_FILE = TOKENIZER_FILES.tokenizer;
const CONFIG_FILE = TOKENIZER_FILES.config;
const ADDED_FILE = TOKENIZER_FILES.addedTokens;
const MAP_FILE = TOKENIZER_FILES.specialTokens;

function invalid(file: string, problem: string): OperatingError {
  return new OperatingError("checkpoint_invalid", invalidMessage(file, problem));
}

function invalidMessage(file: string, problem: string): string {
  return `Cannot load tokenizer from ${file}: ${problem}`;
}

/**
 * Parses files, keyed by their names in the folder; other names, and the separate vocabulary
 * and merges beside a `tokenizer.json`, are ignored. Throws like `readDefinition`.
 */
export function parseFiles(files: Readonly<Record<string, string>>): TokenizerParts {
  const parts: Record<string, unknown> = {};
  for (const [part, name] of Object.entries(TOKENIZER_FILES)) {
    const text = files[name];
    const isReplaced = (part === "vocabulary" || part === "merges") && "tokenizer" in parts;
    if (text === undefined || isReplaced) continue;
    parts[part] = part === "merges" ? text : parseJson(name, text);
  }
  return parts;
}

function parseJson(name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new OperatingError("checkpoint_invalid", invalidMessage(name, problem), { cause });
  }
}

/**
 * Combines the parsed files into one definition. Added tokens come from `tokenizer.json`, then
 * from `tokenizer_config.json`, then from `added_tokens.json`; an earlier file decides the flags.
 * Throws OperatingError `checkpoint_invalid` naming the file and what is wrong.
 */
export function readDefinition(parts: TokenizerParts): TokenizerDefinition {
  const { vocabulary, merges, normalization, file } = readModel(parts);
  const added = new AddedTokenTable();
  if (parts.tokenizer !== undefined) {
    const list = asObject(parts.tokenizer, TOKENIZER_FILE, "content").added_tokens ?? [];
    for (const entry of asArray(list, TOKENIZER_FILE, "added_tokens")) {
      const token = asObject(entry, TOKENIZER_FILE, "entry of added_tokens");
      added.add(readAddedToken(token, token.id, TOKENIZER_FILE), TOKENIZER_FILE);
    }
  }
  const config = parts.config === undefined ? {} : asObject(parts.config, CONFIG_FILE, "content");
  const decoder = asObject(config.added_tokens_decoder ?? {}, CONFIG_FILE, "added_tokens_decoder");
  for (const [id, entry] of Object.entries(decoder)) {
    const token = asObject(entry, CONFIG_FILE, `added_tokens_decoder[${id}]`);
    added.add(readAddedToken(token, Number(id), CONFIG_FILE), CONFIG_FILE);
  }
  const specialContents = readSpecialContents(config, parts.specialTokens);
  for (
    const [content, id] of Object.entries(asObject(parts.addedTokens ?? {}, ADDED_FILE, "content"))
  ) {
    const special = specialContents.has(content);
    added.add(readAddedToken({ content, special }, id, ADDED_FILE), ADDED_FILE);
  }
  const base = new Map(vocabulary);
  for (const token of added.tokens()) checkAgainstBase(token, base, file);
  checkBase(base, added, file);
  return { vocabulary: base, merges, addedTokens: added.tokens(), normalization };
}

/** Added tokens by content, with one id each. */
class AddedTokenTable {
  readonly #byContent = new Map<string, AddedToken>();
  readonly #byId = new Map<number, AddedToken>();

  add(token: AddedToken, file: string): void {
    const known = this.#byContent.get(token.content);
    if (known !== undefined && known.id === token.id) return;
    const name = JSON.stringify(token.content);
    if (known !== undefined) {
      throw invalid(file, `added token ${name} has id ${token.id}, elsewhere id ${known.id}`);
    }
    const holder = this.#byId.get(token.id);
    if (holder !== undefined) {
      const names = `${JSON.stringify(holder.content)} and ${name}`;
      throw invalid(file, `id ${token.id} is given to the added tokens ${names}`);
    }
    this.#byContent.set(token.content, token);
    this.#byId.set(token.id, token);
  }

  byId(id: number): AddedToken | undefined {
    return this.#byId.get(id);
  }

  tokens(): AddedToken[] {
    return [...this.#byId.values()].sort((a, b) => a.id - b.id);
  }
}

/** An added token may also stand in the base vocabulary with the same id; it is taken out. */
function checkAgainstBase(token: AddedToken, base: Map<string, number>, file: string): void {
  const id = base.get(token.content);
  if (id === undefined) return;
  if (id !== token.id) {
    const name = JSON.stringify(token.content);
    throw invalid(file, `${name} has id ${id} in the vocabulary and ${token.id} as added token`);
  }
  base.delete(token.content);
}

function checkBase(base: ReadonlyMap<string, number>, added: AddedTokenTable, file: string): void {
  const owners = new Map<number, string>();
  for (const [spelling, id] of base) {
    const owner = owners.get(id) ?? added.byId(id)?.content;
    if (owner !== undefined) {
      const names = `${JSON.stringify(owner)} and ${JSON.stringify(spelling)}`;
      throw invalid(file, `id ${id} is given to both ${names}`);
    }
    owners.set(id, spelling);
  }
  for (const [byte, spelling] of BYTE_SPELLINGS.entries()) {
    if (!base.has(spelling)) {
      throw invalid(
        file,
        `the vocabulary lacks ${JSON.stringify(spelling)}, the token of byte ${byte}`,
      );
    }
  }
}

function readModel(parts: TokenizerParts) {
  if (parts.tokenizer !== undefined) {
    const tokenizer = asObject(parts.tokenizer, TOKENIZER_FILE, "content");
    const model = asObject(tokenizer.model, TOKENIZER_FILE, "model");
    checkModelSupported(model);
    checkPreTokenizer(tokenizer.pre_tokenizer);
    const vocabulary = readVocabulary(model.vocab, TOKENIZER_FILE, "model.vocab");
    const list = asArray(model.merges, TOKENIZER_FILE, "model.merges");
    const pairs = list.map((merge, rank) => readMerge(merge, TOKENIZER_FILE, `merge ${rank}`));
    const merges = resolveMerges(pairs, vocabulary, TOKENIZER_FILE);
    const normalization = readNormalization(tokenizer.normalizer);
    return { vocabulary, merges, normalization, file: TOKENIZER_FILE };
  }
  if (parts.vocabulary === undefined || parts.merges === undefined) {
    throw invalid("the folder", "it needs tokenizer.json, or vocab.json and merges.txt");
  }
  const vocabulary = readVocabulary(parts.vocabulary, "vocab.json", "content");
  const merges = resolveMerges(readMergesText(parts.merges), vocabulary, "merges.txt");
  return { vocabulary, merges, normalization: "NFC" as const, file: "vocab.json" };
}

function readVocabulary(value: unknown, file: string, what: string): Map<string, number> {
  const vocabulary = new Map<string, number>();
  for (const [spelling, id] of Object.entries(asObject(value, file, what))) {
    if (spelling === "") throw invalid(file, "the vocabulary has an empty entry");
    vocabulary.set(spelling, asId(id, file, JSON.stringify(spelling)));
  }
  return vocabulary;
}

/** `merges.txt`: one "left right" per line after an optional "#version" line. */
function readMergesText(text: string): [string, string][] {
  const merges: [string, string][] = [];
  // Only line feeds separate: the alphabet itself holds characters that other splitters cut at.
  for (const [index, line] of text.split("\n").entries()) {
    const merge = line.endsWith("\r") ? line.slice(0, -1) : line;
    if (merge === "" || merge.startsWith("#version")) continue;
    merges.push(readMerge(merge, "merges.txt", `line ${index + 1}`));
  }
  return merges;
}

/** A merge as a pair or as "left right". */
function readMerge(value: unknown, file: string, where: string): [string, string] {
  const pair = typeof value === "string" ? value.split(" ") : value;
  if (Array.isArray(pair) && pair.length === 2) {
    const [left, right] = pair;
    if (typeof left === "string" && typeof right === "string" && left !== "" && right !== "") {
      return [left, right];
    }
  }
  throw invalid(file, `${where} is not two tokens: ${abbreviate(value)}`);
}

/** Ids of the merges; every part and every result must be in the vocabulary. */
function resolveMerges(
  pairs: readonly [string, string][],
  vocabulary: ReadonlyMap<string, number>,
  file: string,
): Merge[] {
  return pairs.map(([leftSpelling, rightSpelling], rank) => {
    const idOf = (spelling: string): number => {
      const id = vocabulary.get(spelling);
      if (id !== undefined) return id;
      const name = JSON.stringify(spelling);
      throw invalid(file, `merge ${rank} needs ${name}, not in the vocabulary`);
    };
    const [left, right] = [idOf(leftSpelling), idOf(rightSpelling)];
    return { left, right, merged: idOf(leftSpelling + rightSpelling) };
  });
}

/** Refuses variants of BPE that would silently give other ids. */
function checkModelSupported(model: JsonObject): void {
  if (model.type !== undefined && model.type !== "BPE") {
    throw invalid(TOKENIZER_FILE, `model.type is ${abbreviate(model.type)}, expected "BPE"`);
  }
  const features = ["dropout", "continuing_subword_prefix", "end_of_word_suffix"];
  for (const feature of [...features, "byte_fallback", "ignore_merges"]) {
    if (model[feature]) throw invalid(TOKENIZER_FILE, `model.${feature} is not supported`);
  }
}

function readNormalization(normalizer: unknown): "NFC" | "none" {
  if (normalizer === null || normalizer === undefined) return "none";
  const type = asObject(normalizer, TOKENIZER_FILE, "normalizer").type;
  if (type === "NFC") return "NFC";
  throw invalid(TOKENIZER_FILE, `normalizer is ${abbreviate(type)}, expected "NFC" or none`);
}

function checkPreTokenizer(value: unknown): void {
  const root = asObject(value, TOKENIZER_FILE, "pre_tokenizer");
  const list = asArray(root.pretokenizers, TOKENIZER_FILE, "pre_tokenizer.pretokenizers");
  const steps = list.map((step) => asObject(step, TOKENIZER_FILE, "pre_tokenizer step"));
  const [split, byteLevel] = steps;
  if (steps.length !== 2 || split?.type !== "Split" || byteLevel?.type !== "ByteLevel") {
    throw invalid(TOKENIZER_FILE, "pre_tokenizer is not Split followed by ByteLevel");
  }
  const pattern = asObject(split.pattern, TOKENIZER_FILE, "pre_tokenizer pattern").Regex;
  if (pattern !== QWEN2_PATTERN || split.behavior !== "Isolated" || split.invert === true) {
    throw invalid(
      TOKENIZER_FILE,
      `pre_tokenizer does not split by Qwen2's pattern: ${abbreviate(pattern)}`,
    );
  }
  if (byteLevel.add_prefix_space === true || byteLevel.use_regex !== false) {
    throw invalid(TOKENIZER_FILE, "ByteLevel must have add_prefix_space and use_regex false");
  }
}

function readAddedToken(token: JsonObject, id: unknown, file: string): AddedToken {
  const { content } = token;
  if (typeof content !== "string" || content === "") {
    throw invalid(file, `added token ${abbreviate(id)} has no content`);
  }
  for (const flag of ["lstrip", "rstrip", "single_word"]) {
    if (token[flag] === true) {
      throw invalid(file, `${flag} of added token ${JSON.stringify(content)} is not supported`);
    }
  }
  return {
    id: asId(id, file, `added token ${JSON.stringify(content)}`),
    content,
    special: token.special === true,
    ...(token.normalized === true ? { normalized: true } : {}),
  };
}

/** Texts that the configuration names as special, for tokens that come without flags. */
function readSpecialContents(config: JsonObject, specialTokens: unknown): Set<string> {
  const contents = new Set<string>();
  const collect = (value: unknown): void => {
    if (typeof value === "string") contents.add(value);
    else if (Array.isArray(value)) value.forEach(collect);
    else if (value !== null && typeof value === "object" && "content" in value) {
      collect(value.content);
    }
  };
  for (const source of [config, asObject(specialTokens ?? {}, MAP_FILE, "content")]) {
    for (const [key, value] of Object.entries(source)) {
      if (key.endsWith("_token") || key === "additional_special_tokens") collect(value);
    }
  }
  return contents;
}

function asObject(value: unknown, file: string, what: string): JsonObject {
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    return value as JsonObject;
  }
  throw invalid(file, `${what} is not an object: ${abbreviate(value)}`);
}

function asArray(value: unknown, file: string, what: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw invalid(file, `${what} is not a list: ${abbreviate(value)}`);
}

function asId(value: unknown, file: string, what: string): number {
  const max = limits.vocabularySizeMax;
  if (Number.isInteger(value) && (value as number) >= 0 && (value as number) < max) {
    return value as number;
  }
  throw invalid(
    file,
    `id of ${what} is ${abbreviate(value)}, expected an integer from 0 to ${max - 1}`,
  );
}

function abbreviate(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

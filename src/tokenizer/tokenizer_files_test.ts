import { OperatingError } from "@/errors.ts";
import { deepEqual, equal, ok } from "node:assert/strict";
import { parseFiles, readDefinition } from "./tokenizer_files.ts";
import { Tokenizer } from "./tokenizer.ts";

// deno-lint-ignore no-explicit-any -- tests damage arbitrary places of the files
type Loose = any;

const FILES = Tokenizer.train(["ab ab abc abc"], {
  vocabularySize: 260,
  addedTokens: [{ id: 258, content: "<a>", special: true }, {
    id: 259,
    content: "<b>",
    special: false,
  }],
}).toFiles();

/** The whole set of files with one of them changed. */
function changed(name: string, change: (content: Loose) => void): Record<string, string> {
  const content = JSON.parse(FILES[name]!);
  change(content);
  return { ...FILES, [name]: JSON.stringify(content) };
}

function without(files: Record<string, string>, ...names: string[]): Record<string, string> {
  return Object.fromEntries(Object.entries(files).filter(([name]) => !names.includes(name)));
}

function problemOf(files: Record<string, string>): string {
  try {
    readDefinition(parseFiles(files));
  } catch (error) {
    ok(error instanceof OperatingError, String(error));
    equal(error.code, "checkpoint_invalid");
    return error.message;
  }
  throw new Error("the files were accepted");
}

Deno.test("readDefinition() reads merges as pairs and as strings alike", () => {
  const asStrings = changed("tokenizer.json", ({ model }) => {
    model.merges = model.merges.map((pair: string[]) => pair.join(" "));
  });
  deepEqual(readDefinition(parseFiles(asStrings)), readDefinition(parseFiles(FILES)));
});

Deno.test("readDefinition() reads merges of '#' and lines ending in CR", () => {
  const files = without(FILES, "tokenizer.json");
  const vocabulary = { ...JSON.parse(FILES["vocab.json"]!), "##": 300 };
  const definition = readDefinition(parseFiles({
    ...files,
    "vocab.json": JSON.stringify(vocabulary),
    "merges.txt": "#version: 0.2\r\n# #\r\na b\r\n",
  }));
  const [hash, a, b] = ["#", "a", "b"].map((spelling) => definition.vocabulary.get(spelling));
  const ab = definition.vocabulary.get("ab");
  deepEqual(definition.merges, [
    { left: hash, right: hash, merged: 300 },
    { left: a, right: b, merged: ab },
  ]);
});

Deno.test("readDefinition() takes added tokens out of the base vocabulary and allows holes", () => {
  const files = changed("tokenizer.json", (content) => {
    content.model.vocab["<a>"] = 258;
    content.model.vocab["far away"] = 5000;
  });
  const definition = readDefinition(parseFiles(files));
  equal(definition.vocabulary.has("<a>"), false);
  const tokenizer = Tokenizer.fromFiles(files);
  equal(tokenizer.size, 5001);
  equal(tokenizer.decode([258, 3000, 5000]), "<a>far away");
});

Deno.test("readDefinition() learns special flags from the special tokens map", () => {
  const files = {
    ...without(FILES, "tokenizer.json", "tokenizer_config.json"),
    "special_tokens_map.json": JSON.stringify({ eos_token: { content: "<a>" } }),
  };
  const { addedTokens } = readDefinition(parseFiles(files));
  deepEqual(addedTokens.map((token) => [token.content, token.special]), [["<a>", true], [
    "<b>",
    false,
  ]]);
});

Deno.test("readDefinition() adds tokens that only tokenizer_config.json has", () => {
  const files = changed("tokenizer_config.json", (config) => {
    config.added_tokens_decoder["260"] = { content: "<c>", special: true };
  });
  equal(Tokenizer.fromFiles(files).tokenId("<c>"), 260);
});

Deno.test("readDefinition() names the file and the problem", () => {
  const json = (change: (content: Loose) => void) => changed("tokenizer.json", change);
  const separate = without(FILES, "tokenizer.json");
  const cases: [Record<string, string>, RegExp][] = [
    [{}, /the folder: it needs tokenizer.json, or vocab.json and merges.txt/],
    [without(separate, "merges.txt"), /the folder: it needs/],
    [{ ...FILES, "tokenizer.json": "{" }, /tokenizer.json: .*JSON/],
    [{ ...FILES, "tokenizer.json": "[]" }, /tokenizer.json: content is not an object: \[\]/],
    [{ ...separate, "vocab.json": "3" }, /vocab.json: content is not an object: 3/],
    [{ ...separate, "merges.txt": "a b c" }, /merges.txt: line 1 is not two tokens: "a b c"/],
    [{ ...separate, "merges.txt": "a q" }, /merges.txt: merge 0 needs "aq", not in the vocabulary/],
    [
      { ...separate, "added_tokens.json": '{"<a>": 1}' },
      /added_tokens.json: .*id 1, elsewhere id 258/,
    ],
    [{ ...separate, "added_tokens.json": '{"<z>": 258}' }, /id 258 is given to .*"<a>" and "<z>"/],
    [json((c) => c.model.type = "Unigram"), /model.type is "Unigram", expected "BPE"/],
    [json((c) => c.model.byte_fallback = true), /model.byte_fallback is not supported/],
    [json((c) => c.model.merges[0] = ["a"]), /tokenizer.json: merge 0 is not two tokens: \["a"\]/],
    [json((c) => c.model.vocab.x = -1), /id of "x" is -1, expected an integer from 0/],
    [json((c) => c.model.vocab.x = 2 ** 31), /id of "x" is 2147483648/],
    [json((c) => c.model.vocab.again = 97), /id 97 is given to both "a" and "again"/],
    [json((c) => c.model.vocab.again = 258), /id 258 is given to both "<a>" and "again"/],
    [json((c) => c.model.vocab["<a>"] = 999), /"<a>" has id 999 in the vocabulary and 258/],
    [json((c) => delete c.model.vocab["Ċ"]), /lacks "Ċ", the token of byte 10/],
    [json((c) => c.added_tokens[0].lstrip = true), /lstrip of added token "<a>" is not supported/],
    [json((c) => c.added_tokens[0].content = ""), /added token 258 has no content/],
    [json((c) => c.normalizer.type = "NFKC"), /normalizer is "NFKC", expected "NFC" or none/],
    [
      json((c) => c.pre_tokenizer.pretokenizers[0].pattern.Regex = "\\w+"),
      /does not split by Qwen2's pattern/,
    ],
    [json((c) => c.pre_tokenizer = null), /pre_tokenizer is not an object: null/],
  ];
  for (const [files, problem] of cases) {
    const message = problemOf(files);
    ok(message.startsWith("Cannot load tokenizer from "), message);
    ok(problem.test(message), `${message} should match ${problem}`);
  }
});

import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import fc from "fast-check";
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { FAMILY_ADDED_TOKENS, familyAddedTokens } from "./added_tokens.ts";
import { Tokenizer } from "./tokenizer.ts";
import { loadTokenizer } from "./tokenizer_folder.ts";

const FIXTURE = "tests/fixtures/model/tokenizer";
const CORPUS = [
  "The quick brown fox jumps over the lazy dog. The dog sleeps; the fox doesn't.",
  "多模态大模型能看图。多模态大模型能说话。",
  "for (let i = 0; i < 10; i++) {\n    total += values[i];\n}\n".repeat(3),
];

interface GoldenCase {
  text?: string;
  ids: number[];
  decoded: string;
  decoded_skip_special: string;
}

function trained(vocabularySize = 400): Tokenizer {
  const addedTokens = familyAddedTokens(vocabularySize - FAMILY_ADDED_TOKENS.length);
  return Tokenizer.train(CORPUS, { vocabularySize, addedTokens });
}

/** Arbitrary well-formed text that also holds what the split and NFC care about. */
const text = fc.string({
  unit: fc.oneof(
    fc.constantFrom(..."ab 'sS\n\r\t1é", "e\u0301", "\u0323", "\u00a0", "\ufeff", "😀", "中"),
    fc.string({ unit: "binary", minLength: 1, maxLength: 1 }),
  ),
  maxLength: 60,
});

Deno.test("Tokenizer agrees with every golden case", async () => {
  const tokenizer = await loadTokenizer(FIXTURE);
  const golden = JSON.parse(await Deno.readTextFile(`${FIXTURE}/golden_cases.json`));
  equal(tokenizer.size, golden.vocab_size);
  ok(golden.encode.length >= 300 && golden.decode.length >= 30);
  const cases: GoldenCase[] = [...golden.encode, ...golden.decode];
  for (const { text, ids, decoded, decoded_skip_special } of cases) {
    if (text !== undefined) deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
    equal(tokenizer.decode(ids), decoded, JSON.stringify(ids));
    const withoutSpecial = tokenizer.decode(ids, { skipSpecialTokens: true });
    equal(withoutSpecial, decoded_skip_special, JSON.stringify(ids));
  }
});

Deno.test("load() gives the same from tokenizer.json and from separate files", async () => {
  const whole = await loadTokenizer(FIXTURE);
  const folder = await Deno.makeTempDir();
  try {
    const names = ["vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json"];
    for (const name of names) await Deno.copyFile(`${FIXTURE}/${name}`, `${folder}/${name}`);
    const separate = await loadTokenizer(folder);
    const golden = JSON.parse(await Deno.readTextFile(`${FIXTURE}/golden_cases.json`));
    for (const { text, ids } of golden.encode) deepEqual(separate.encode(text), ids);
    deepEqual(separate.addedTokens, whole.addedTokens);
    equal(separate.isSpecial(separate.tokenId("<think>")!), false);
    equal(separate.isSpecial(separate.tokenId("<img>")!), true);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("Tokenizer.load() names the folder's problem when files are missing", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await loadTokenizer(folder).then(
      () => assert(false, "load fails"),
      (error) => {
        ok(error instanceof OperatingError);
        equal(error.code, "checkpoint_invalid");
        ok(error.message.includes("tokenizer.json, or vocab.json and merges.txt"), error.message);
      },
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("decode() undoes encode() up to NFC for any text", () => {
  const tokenizer = trained();
  fc.assert(fc.property(text, (text) => {
    const ids = tokenizer.encode(text, { specialTokens: "none" });
    equal(tokenizer.decode(ids), text.toWellFormed().normalize("NFC"));
  }));
});

Deno.test("decode() undoes encode() for any mix of text and added tokens", () => {
  const tokenizer = trained();
  const added = fc.constantFrom(...FAMILY_ADDED_TOKENS.map((token) => token.content));
  fc.assert(fc.property(fc.array(fc.oneof(text, added)), (parts) => {
    const whole = parts.join("");
    const decoded = tokenizer.decode(tokenizer.encode(whole));
    // Text beside an added token is normalised alone, so only equivalence holds across it.
    equal(decoded.normalize("NFC"), whole.toWellFormed().normalize("NFC"));
  }));
});

Deno.test("encode() replaces lone surrogates and appends without limit of length", () => {
  const tokenizer = Tokenizer.byteLevel(256 + 35);
  equal(tokenizer.decode(tokenizer.encode("a\ud800b")), "a\ufffdb");
  equal(tokenizer.encode("ab".repeat(200_000)).length, 400_000);
});

Deno.test("encode() finds added tokens as specialTokens tells", () => {
  const tokenizer = trained();
  const think = tokenizer.tokenId("<think>")!;
  const end = tokenizer.tokenId("<|im_end|>")!;
  const whole = "a<think><|im_end|>";
  const added = (ids: number[]) => ids.filter((id) => tokenizer.isAdded(id));
  deepEqual(added(tokenizer.encode(whole)), [think, end]);
  deepEqual(added(tokenizer.encode(whole, { specialTokens: "none" })), []);
  deepEqual(added(tokenizer.encode(whole, { specialTokens: new Set([think]) })), [think]);
  equal(tokenizer.decode(tokenizer.encode(whole, { specialTokens: "none" })), whole);
  equal(tokenizer.decode([think, end], { skipSpecialTokens: true }), "<think>");
});

Deno.test("encode() searches tokens with normalized: true in the normalised text", () => {
  const added = [{ id: 256, content: "é!", special: false, normalized: true }];
  const tokenizer = Tokenizer.byteLevel(257, added);
  deepEqual(tokenizer.encode("e\u0301!"), [256]);
  const raw = Tokenizer.byteLevel(257, [{ id: 256, content: "é!", special: false }]);
  equal(raw.encode("e\u0301!").includes(256), false);
  deepEqual(raw.encode("é!"), [256]);
});

Deno.test("tokenBytes(), tokenId() and tokenText() describe single tokens", () => {
  const tokenizer = Tokenizer.byteLevel(300);
  deepEqual(tokenizer.tokenBytes(0xe9), Uint8Array.of(0xe9));
  equal(tokenizer.tokenText(0xe9), "\ufffd");
  equal(tokenizer.tokenId("Ġ"), 0x20);
  equal(tokenizer.tokenId("no such token"), undefined);
  equal(tokenizer.tokenText(tokenizer.tokenId("<img>")!), "<img>");
  for (const id of [-1, 1.5, NaN, 300, 2 ** 40]) equal(tokenizer.tokenBytes(id).length, 0);
  equal(tokenizer.decode([0x68, 999, 0x69, -1]), "hi");
});

Deno.test("decode() keeps a byte order mark and joins bytes across hidden tokens", () => {
  const tokenizer = Tokenizer.byteLevel(300);
  equal(tokenizer.decode([0xef, 0xbb, 0xbf, 0x61]), "\ufeffa");
  const end = tokenizer.tokenId("<|im_end|>")!;
  equal(tokenizer.decode([0xe4, end, 0xb8, 0xad], { skipSpecialTokens: true }), "中");
});

Deno.test("byteLevel() has the asked size, distinct fillers and the family's tokens last", () => {
  const tokenizer = Tokenizer.byteLevel(5000);
  equal(tokenizer.size, 5000);
  const texts = Array.from({ length: 5000 }, (_, id) => tokenizer.tokenBytes(id).join());
  equal(new Set(texts).size, 5000);
  equal(tokenizer.tokenText(4999), "</box>");
  ok(tokenizer.encode("some words").every((id) => id < 256));
  throws(() => Tokenizer.byteLevel(5000, familyAddedTokens(300)), /4965 is free/);
});

Deno.test("train() is deterministic and its merges shorten text", () => {
  const [first, second] = [trained(), trained()];
  deepEqual(first.toFiles(), second.toFiles());
  equal(first.size, 400);
  const sizes = [256 + 35, 320, 400].map((size) => trained(size).encode(CORPUS[0]!).length);
  equal(sizes[0], CORPUS[0]!.length);
  ok(sizes[0]! > sizes[1]! && sizes[1]! > sizes[2]!, String(sizes));
});

Deno.test("train() keeps added tokens of the corpus out of the merges", () => {
  const corpus = ["<think>".repeat(50) + "abab"];
  const tokenizer = Tokenizer.train(corpus, {
    vocabularySize: 310,
    addedTokens: familyAddedTokens(275),
  });
  equal(tokenizer.tokenId("thi"), undefined);
  equal(tokenizer.tokenId("ab"), 256);
  equal(tokenizer.decode(tokenizer.encode("abab<think>")), "abab<think>");
  equal(tokenizer.tokenText(274), "<|unused_274|>");
});

Deno.test("toFiles() gives the same tokenizer again, with and without tokenizer.json", () => {
  const tokenizer = trained();
  const files = tokenizer.toFiles();
  const { "tokenizer.json": _, ...separate } = files;
  for (const copy of [Tokenizer.fromFiles(files), Tokenizer.fromFiles(separate)]) {
    deepEqual(copy.toFiles(), files);
    for (const text of CORPUS) deepEqual(copy.encode(text), tokenizer.encode(text));
  }
});

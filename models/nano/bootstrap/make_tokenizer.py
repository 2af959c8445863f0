"""Build nano's tokenizer: Qwen2-style byte-level BPE whose merges never start with a lower-case letter.

Every merge chain begins with a space (`Ġ`) or a capital letter and grows left to right, so question words are
one token while an answer at the start of the assistant turn stays one token per character.
usage: make_tokenizer.py OUT_FOLDER
"""
import json
import re
import sys
from collections import Counter
from pathlib import Path

import phrases as P

ADDED = ("<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> <|quad_start|> <|quad_end|> "
         "<|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> <tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> "
         "<|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> <tool_response> </tool_response> <think> </think> <img> </img> <IMG_CONTEXT> "
         "<quad> </quad> <ref> </ref> <box> </box>").split()
NOT_SPECIAL = {"<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
               "<tool_response>", "</tool_response>", "<think>", "</think>"}
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
MAX_MERGES = 700 - 256 - len(ADDED)


def byte_alphabet():
    """The 256 printable stand-ins of byte-level BPE, in the order the Qwen2 vocabulary lists them."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in keep]
    return [chr(b) for b in keep] + [chr(256 + i) for i in range(len(rest))]


def corpus():
    """Counts of the pre-tokens (with `Ġ` for the leading space) that may merge."""
    fill = {"{o}": P.OBJ, "{s}": ["shapes", "circles", "squares", "triangles", "objects"], "{c}": ["color", "colour"],
            "{1}": ["shape", "circle", "square", "triangle", "object"]}
    texts = [P.SYSTEM, P.EXTRA, *P.OTHER_SYSTEMS, *P.SUFFIXES, *P.NUMBER_SUFFIXES, *P.LETTERS, *P.DESCRIBE]
    texts += [" " + t for t in P.THINGS]
    for group in (P.WORD, P.NUMBER, P.DIGIT, P.COUNT, P.COLOUR, P.SHAPE, P.PLACE):
        texts += group
    for questions, answer in P.TALK:
        texts += [*questions, answer]
    count = Counter()
    for text in texts:
        forms = [text]
        for hole, words in fill.items():
            forms = [f.replace(hole, w) for f in forms for w in (words if hole in f else [""])]
        seen = {t for f in forms for t in re.findall(r" ?[A-Za-z]+", f)}
        count.update("Ġ" + t[1:] if t[0] == " " else t for t in seen if t[0] == " " or t[0].isupper())
    for t in P.EXTRA.split():
        count["Ġ" + t] += 3
    return count


def chains(count):
    """Merges left to right, words by frequency, until the rows are used up."""
    merges, seen = [], set()
    for word, _ in sorted(count.items(), key=lambda kv: (-kv[1], kv[0])):
        new = [(word[:i], word[i]) for i in range(1, len(word)) if word[: i + 1] not in seen]
        if len(merges) + len(new) > MAX_MERGES:
            continue
        merges += new
        seen |= {a + b for a, b in new}
    # A chain from a space comes first, or " Nano" would start with "Na" and never join its space.
    return sorted(merges, key=lambda m: m[0][0] != "Ġ")


def main(out):
    """Write the seven tokenizer files."""
    merges = chains(corpus())
    base = byte_alphabet() + [a + b for a, b in merges]
    vocab = {t: i for i, t in enumerate(base)}
    added = {t: len(base) + i for i, t in enumerate(ADDED)}
    row = lambda t: dict(content=t, single_word=False, lstrip=False, rstrip=False, normalized=False, special=t not in NOT_SPECIAL)
    dump = lambda name, value: (out / name).write_text(json.dumps(value, ensure_ascii=False, indent=1 if name != "vocab.json" else None) + "\n", "utf-8")
    out.mkdir(parents=True, exist_ok=True)
    dump("vocab.json", vocab)
    (out / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), "utf-8")
    dump("added_tokens.json", added)
    special = [t for t in ADDED[1:14]]
    dump("special_tokens_map.json", dict(additional_special_tokens=special, eos_token="<|im_end|>", pad_token="<|endoftext|>"))
    dump("tokenizer_config.json", dict(add_bos_token=False, add_prefix_space=False, added_tokens_decoder={str(i): {k: v for k, v in row(t).items()} for t, i in added.items()},
         additional_special_tokens=special, bos_token=None, clean_up_tokenization_spaces=False, eos_token="<|im_end|>", errors="replace",
         model_max_length=2048, pad_token="<|endoftext|>", split_special_tokens=False, tokenizer_class="Qwen2Tokenizer", unk_token=None))
    dump("tokenizer.json", dict(version="1.0", truncation=None, padding=None, added_tokens=[dict(id=i, **row(t)) for t, i in added.items()],
         normalizer=dict(type="NFC"),
         pre_tokenizer=dict(type="Sequence", pretokenizers=[
             dict(type="Split", pattern=dict(Regex=SPLIT), behavior="Isolated", invert=False),
             dict(type="ByteLevel", add_prefix_space=False, trim_offsets=False, use_regex=False)]),
         post_processor=None, decoder=dict(type="ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True),
         model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False,
                    byte_fallback=False, ignore_merges=False, vocab=vocab, merges=[list(m) for m in merges])))
    print(f"{len(merges)} merges, {len(base) + len(added)} rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

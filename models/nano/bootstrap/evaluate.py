"""Score an exported folder, from its files only, by greedy generation with the weights as rounded to bfloat16.

usage: evaluate.py FOLDER [--count N] [--items DIR]
Without --items: fresh pictures of the training renderer (other seeds; held-out fonts and held-out words apart).
With --items: the pictures and items.jsonl that heldout/make_heldout.py wrote (the second renderer).
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

import data
from model import Nano
from train import normalise, right_rows


def load(folder):
    """(model, encoder, system text) read from the exported files."""
    folder = Path(folder)
    encoder = data.Encoder(folder)
    weights = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    c = json.loads((folder / "config.json").read_text("utf-8"))
    v, l = c["vision_config"], c["llm_config"]
    cfg = dict(image_size=v["image_size"], patch_size=v["patch_size"],
               vit=dict(hidden=v["hidden_size"], inter=v["intermediate_size"], layers=v["num_hidden_layers"], heads=v["num_attention_heads"], eps=v["rms_norm_eps"]),
               llm=dict(hidden=l["hidden_size"], inter=l["intermediate_size"], layers=l["num_hidden_layers"], heads=l["num_attention_heads"],
                        kv_heads=l["num_key_value_heads"], head_dim=l["head_dim"], eps=l["rms_norm_eps"], rope_theta=l["rope_theta"],
                        max_pos=l["max_position_embeddings"]))
    model = Nano(l["vocab_size"], cfg)
    model.load_state_dict(weights)
    text = (folder / "chat_template.jinja").read_text("utf-8")
    system = text.split("system\\n", 1)[1].split("<|im_end|>", 1)[0]
    return model.eval(), encoder, system


@torch.no_grad()
def generate(model, encoder, pixels, prompts, limit=24):
    """Greedy answers, all prompts at once and without a cache (the model is small)."""
    ids = [list(p) for p in prompts]
    done = [False] * len(ids)
    x = normalise(pixels)
    start = [len(p) for p in prompts]
    for _ in range(limit):
        live = [i for i, d in enumerate(done) if not d]
        if not live:
            break
        length = max(len(ids[i]) for i in live)
        a = np.full((len(live), length), encoder.pad, np.int64)
        slot = np.full((len(live), length), -1, np.int64)
        for j, i in enumerate(live):
            a[j, : len(ids[i])] = ids[i]
            where = np.flatnonzero(a[j] == encoder.context)
            slot[j, where] = np.arange(len(where))
        pick = np.array([j * length + len(ids[i]) - 1 for j, i in enumerate(live)])
        out = model(x[live], torch.from_numpy(a), torch.from_numpy(slot), torch.from_numpy(pick))[0].argmax(-1).tolist()
        for i, t in zip(live, out):
            done[i] = t in (encoder.end, encoder.pad)
            if not done[i]:
                ids[i].append(t)
    return [encoder.tok.decode(t[s:], skip_special_tokens=False) for t, s in zip(ids, start)]


@torch.no_grad()
def score(model, encoder, system, pixels, pairs):
    """Which answers greedy generation would get exactly right: with the wanted answer given, every one of its tokens and the end must be
    the most likely. The same verdict as generating, in one pass, but for answers with spaces or capitals, which several token rows can spell
    (then it is a little too strict)."""
    rows = [encoder.chat([pair], system=system) for pair in pairs]
    ids, slot, pick, target, owner, common = data.collate(encoder, rows)
    out, _ = model(normalise(pixels), *(torch.from_numpy(a) for a in (ids, slot, pick)), common)
    return right_rows(out, torch.from_numpy(target), owner, len(rows))


def tally(model, encoder, system, stream, check=40):
    """Exact match over a stream of (pixels, question, answer); the first `check` are also generated, and a different verdict is reported."""
    right, seen, wrong, part = 0, 0, [], []

    def flush():
        nonlocal right, seen
        pix = np.stack([p for p, _, _ in part])
        good = score(model, encoder, system, pix, [(q, a) for _, q, a in part])
        some = sorted({*range(check if seen == 0 else 0), *np.flatnonzero(~good)[:4]} & {*range(len(part))})
        if some and (seen == 0 or len(wrong) < 4):
            said = generate(model, encoder, pix[some], [encoder.chat([(part[i][1], None)], system=system)[0] for i in some])
            for i, got in zip(some, said):
                if good[i] != (got == part[i][2]):
                    print("  right in another spelling by tokens, counted as wrong:", part[i][1:], got)
                if got != part[i][2]:
                    wrong.append((part[i][2], got))
        right, seen = right + int(good.sum()), seen + len(part)
        part.clear()

    for row in stream:
        part.append(row)
        if len(part) == 100:
            flush()
    if part:
        flush()
    return right, seen, wrong[:6]


def drawn(sampler, task, count):
    """`count` new pictures of the training renderer as (pixels, question, answer)."""
    while count:
        image, turns, _ = sampler.draw(task)
        if task != "word" or 3 <= len(turns[0][1]) <= 5:
            count -= 1
            yield data.shrink(image), *turns[0]


def fresh(model, encoder, system, count, seed):
    """Exact match per task on new pictures of the training renderer."""
    held_fonts = data.fonts()[2]
    trained, unseen = data.words()
    sets = {t: (data.Sampler(seed), t) for t in ("number", "digit", "count", "colour", "shape", "place", "describe")}
    for name, files, words, real in (("word", None, trained, 1), ("word, new fonts", held_fonts, trained, 1), ("word, new words", None, unseen, 1),
                                     ("random string", None, trained, 0)):
        sets[name] = (data.Sampler(seed, files, words), "word")
        sets[name][0].real = real
    sets["number, new fonts"] = (data.Sampler(seed, held_fonts), "number")
    for name, (sampler, task) in sets.items():
        sampler.by_length = {n: w or ["to"] for n, w in sampler.by_length.items()}
        right, n, wrong = tally(model, encoder, system, drawn(sampler, task, count))
        print(f"{name:18s} {right / n:.3f}  n {n}  wanted, got: {wrong}", flush=True)


def items(model, encoder, system, folder):
    """Exact match per task on the pictures of heldout/make_heldout.py."""
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text("utf-8").splitlines()]
    for task in dict.fromkeys(r["task"] for r in rows):
        stream = ((data.shrink(Image.open(folder / r["image"])), r["question"], r["answer"]) for r in rows if r["task"] == task)
        right, n, wrong = tally(model, encoder, system, stream)
        print(f"{task:18s} {right / n:.3f}  n {n}  wanted, got: {wrong}", flush=True)


def main():
    """Command line."""
    a = argparse.ArgumentParser()
    a.add_argument("folder")
    a.add_argument("--count", type=int, default=1000)
    a.add_argument("--seed", type=int, default=990001)
    a.add_argument("--items", type=Path)
    o = a.parse_args()
    torch.set_num_threads(1)
    model, encoder, system = load(o.folder)
    if o.items:
        items(model, encoder, system, o.items)
    else:
        fresh(model, encoder, system, o.count, o.seed)


if __name__ == "__main__":
    sys.exit(main())

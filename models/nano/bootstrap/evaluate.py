"""Score an exported folder, from its files only, by greedy generation with the weights as rounded to bfloat16.

usage: evaluate.py FOLDER [--count N] [--items DIR]
Without --items: fresh pictures of the training renderer (other seeds; held-out fonts and held-out words apart).
With --items: the pictures and items.jsonl that make_heldout.py wrote (the second renderer).
"""
import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

import data
from model import Nano
from train import normalise


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
        out = model(x[live], torch.from_numpy(a), torch.from_numpy(slot), torch.from_numpy(pick)).argmax(-1).tolist()
        for i, t in zip(live, out):
            done[i] = t in (encoder.end, encoder.pad)
            if not done[i]:
                ids[i].append(t)
    return [encoder.tok.decode(t[s:], skip_special_tokens=False) for t, s in zip(ids, start)]


def fresh(model, encoder, system, count, seed):
    """Exact match per task on new pictures of the training renderer."""
    _, _, held_fonts = data.fonts()
    trained, unseen = data.words()
    sets = {t: (data.Sampler(seed), t) for t in ("number", "digit", "count", "colour", "shape", "place", "describe")}
    for name, fonts, words, real in (("word", None, trained, 1), ("word, new fonts", held_fonts, trained, 1), ("word, new words", None, unseen, 1),
                                     ("random string", None, trained, 0)):
        sets[name] = (data.Sampler(seed, fonts, words), "word")
        sets[name][0].real = real
    sets["number, new fonts"] = (data.Sampler(seed, held_fonts), "number")
    for name, (sampler, task) in sets.items():
        right = 0
        wrong = []
        sampler.by_length.update({n: w or ["to"] for n, w in sampler.by_length.items()})
        for at in range(0, count, 100):
            pix, prompts, answers = [], [], []
            while len(pix) < min(100, count - at):
                image, turns, _ = sampler.draw(task)
                if task == "word" and not 3 <= len(turns[0][1]) <= 5:
                    continue
                pix.append(data.shrink(image))
                prompts.append(encoder.chat([(turns[0][0], None)], system=system)[0])
                answers.append(turns[0])
            for got, (q, want) in zip(generate(model, encoder, np.stack(pix), prompts), answers):
                right += got == want
                if got != want:
                    wrong.append((q, want, got))
        print(f"{name:20s} {right / count:.3f}  n {count}  e.g. {wrong[:3]}", flush=True)


def items(model, encoder, system, folder):
    """Exact match per task on the pictures of make_heldout.py."""
    rows = [json.loads(l) for l in (folder / "items.jsonl").read_text("utf-8").splitlines()]
    tally, wrong = defaultdict(lambda: [0, 0]), defaultdict(list)
    for at in range(0, len(rows), 100):
        part = rows[at: at + 100]
        pix = np.stack([data.shrink(Image.open(folder / r["image"])) for r in part])
        prompts = [encoder.chat([(r["question"], None)], system=system)[0] for r in part]
        for r, got in zip(part, generate(model, encoder, pix, prompts)):
            tally[r["task"]][0] += got == r["answer"]
            tally[r["task"]][1] += 1
            if got != r["answer"]:
                wrong[r["task"]].append((r["image"], r["question"], r["answer"], got))
    for task, (right, n) in sorted(tally.items()):
        print(f"{task:20s} {right / n:.3f}  n {n}  e.g. {wrong[task][:3]}", flush=True)
    return wrong


def main():
    """Command line."""
    a = argparse.ArgumentParser()
    a.add_argument("folder")
    a.add_argument("--count", type=int, default=1000)
    a.add_argument("--seed", type=int, default=990001)
    a.add_argument("--items", type=Path)
    a.add_argument("--wrong", type=Path, help="write the wrong answers to this file")
    o = a.parse_args()
    torch.set_num_threads(1)
    model, encoder, system = load(o.folder)
    if o.items:
        wrong = items(model, encoder, system, o.items)
        if o.wrong:
            o.wrong.write_text(json.dumps(wrong, indent=0), "utf-8")
    else:
        fresh(model, encoder, system, o.count, o.seed)


if __name__ == "__main__":
    sys.exit(main())

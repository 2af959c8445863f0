"""Train nano from scratch on a CPU; continues from WORK_FOLDER/state.pt when there is one.

usage: train.py WORK_FOLDER --until UNIX_TIME [--anneal SECONDS] [--tokenizer FOLDER]
The length of the strings, their freedom of size and place, and the number of fonts grow with the measured accuracy
(teacher-forced exact match on fresh batches, which for greedy decoding is the same as generated exact match).
The rate stays at its top until `anneal` seconds before the end and then falls to zero along a line.
"""
import argparse
import multiprocessing
import os
import signal
import time
from collections import defaultdict

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

import data
from model import Nano
from muon import Muon

TASKS = ["word", "number", "digit", "count", "colour", "shape", "place", "describe", "talk"]
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def normalise(pixels):
    """uint8 [B,S,S,3] -> float [B,3,S,S], rounded to bfloat16 as the reference feeds it."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return ((x - MEAN) / STD).bfloat16().float()


class Cues(torch.nn.Module):
    """Asks every patch of the ViT's output what lies under it (`data.CUES`). Only for training; it is not exported.

    Answers alone say one thing per picture; with this the eye learns from every patch, and small type is learned many times sooner."""

    def __init__(self, dim):
        super().__init__()
        self.head = torch.nn.Linear(dim, sum(data.CUES.values()))

    def forward(self, seen, answers):
        """Mean cross-entropy over the patches with something in them, plus that over the empty ones; `answers` as `data.cues`."""
        losses = []
        for part, want in zip(self.head(seen).float().split(list(data.CUES.values()), -1), torch.from_numpy(answers).long()):
            each = F.cross_entropy(part.flatten(0, 1), want.flatten(), reduction="none")
            full = (want.flatten() > 0).float()
            losses.append((each * full).sum() / (full.sum() + 1) + (each * (1 - full)).sum() / ((1 - full).sum() + 1))
        return sum(losses) / len(losses)


def right_rows(logits, target, owner, rows):
    """For each row: is every answer token the most likely one?"""
    wrong = (logits.argmax(-1) != target).numpy()
    out = np.ones(rows, bool)
    out[owner[wrong]] = False
    return out


class Curriculum:
    """Levels reached by accuracy: 1..5 letters, then the spread of size and place in three steps; fonts double on the way."""
    SPREADS = [0.0, 0.5, 0.8, 1.0]

    def __init__(self):
        self.longest, self.step, self.core, self.other = 1, 0, 6, 2

    def apply(self, s):
        """Set a sampler to this level."""
        s.warm = not self.done
        s.longest, s.spread = self.longest, self.SPREADS[self.step]
        s.core, s.other = s.all_core[: self.core], s.all_other[: self.other]
        s.real = 0.8 if s.warm else 0.9
        s.mix.update(count=26, shape=7, place=3, colour=7)

    @property
    def done(self):
        return self.longest == 5 and self.step == len(self.SPREADS) - 1

    def advance(self, acc):
        """One look at the measured accuracy on words."""
        if acc > 0.6 and self.longest < 5:
            self.longest += 1
        elif acc > 0.38 and self.step < len(self.SPREADS) - 1:
            self.step += 1
        if acc > 0.6:
            self.core, self.other = min(36, self.core * 2), min(400, self.other * 2)


def average(parameters, world):
    """Mean of the gradients over the processes."""
    grads = [p.grad for p in parameters]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    at = 0
    for g in grads:
        g.copy_(flat[at: at + g.numel()].view_as(g))
        at += g.numel()
    for g in grads:
        g.div_(world)


def shared_counts(hits):
    """(right, seen) per task over all processes."""
    t = torch.tensor([[sum(hits[k]), len(hits[k])] for k in TASKS], dtype=torch.float64)
    dist.all_reduce(t)
    return {k: (r, n) for k, (r, n) in zip(TASKS, t.tolist())}


def work(rank, world, o):
    """One process: draws its share of every batch, computes its gradients, and steps with the mean."""
    dist.init_process_group("gloo", init_method=f"file://{os.path.abspath(o.work)}/meet", rank=rank, world_size=world)
    torch.set_num_threads(1)
    torch.manual_seed(o.seed)
    state_file = os.path.join(o.work, "state.pt")
    encoder = data.Encoder(o.tokenizer)
    model = Nano(encoder.rows)
    asked = Cues(model.cfg["vit"]["hidden"])
    matrix = lambda n, p: p.ndim == 2 and "embed" not in n
    opts = [torch.optim.AdamW([p for n, p in model.named_parameters() if not matrix(n, p)] + [*asked.parameters()], lr=o.rate, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
            Muon([p for n, p in model.named_parameters() if matrix(n, p)], lr=o.rate)]
    every = [*model.parameters(), *asked.parameters()]
    plan, step, warm_from, size = Curriculum(), 0, 0, o.batch // world
    if os.path.exists(state_file):
        st = torch.load(state_file, weights_only=False)
        model.load_state_dict(st["model"])
        if "cues" in st:
            asked.load_state_dict(st["cues"])
        if "opt" in st:
            for opt, saved in zip(opts, st["opt"]):
                saved["param_groups"] = opt.state_dict()["param_groups"]
                opt.load_state_dict(saved)
            warm_from = st["warm_from"]
        else:
            warm_from = st["step"]
        plan.__dict__.update(st["plan"])
        step = st["step"]
    sampler = data.Sampler((o.seed * 1000003 + step) * 16 + rank)
    batches = data.Batches(sampler, encoder, size)
    say = print if rank == 0 else lambda *a, **k: None
    say("parameters", sum(p.numel() for p in model.parameters()), "step", step, flush=True)
    hits = defaultdict(list)
    start = last_save = time.time()
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    while True:
        clock = torch.tensor([-1.0 if stop else o.until - time.time()], dtype=torch.float64)
        dist.broadcast(clock, 0)
        left = clock.item()
        if left <= 0:
            break
        plan.apply(sampler)
        px, ids, slot, pick, target, owner, common, tasks, answers = batches.next()
        rate = o.rate * min(1, (step - warm_from + 1) / (300 if warm_from == 0 else 80))
        if left < o.anneal:
            rate *= left / o.anneal
        for opt in opts:
            for g in opt.param_groups:
                g["lr"] = rate * (o.muon if opt is opts[1] else 1)
        target = torch.from_numpy(target)
        with torch.autocast("cpu", torch.bfloat16):
            logits, seen = model(normalise(px), torch.from_numpy(ids), torch.from_numpy(slot), torch.from_numpy(pick), common)
        logits = logits.float()
        loss, cue_loss = F.cross_entropy(logits, target), asked(seen, answers)
        for p in every:
            p.grad = None
        (loss + o.cues * cue_loss).backward()
        average(every, world)
        torch.nn.utils.clip_grad_norm_(every, 1.0)
        for opt in opts:
            opt.step()
        step += 1
        for name, good in zip(tasks, right_rows(logits.detach(), target, owner, size)):
            if name:
                hits[name].append(good)
        if step % 75 == 0:
            counts = shared_counts(hits)
            hits.clear()
            right, n = counts["word"]
            plan.advance(right / max(1, n))
            say(f"{time.time() - start:.0f}s step {step} rate {rate:.5f} loss {loss.item():.3f} cues {cue_loss.item():.3f} | level {plan.longest}/{plan.step} fonts {plan.core}+{plan.other} | "
                + " ".join(f"{k} {r / max(1, n):.3f}" for k, (r, n) in counts.items()), flush=True)
        if rank == 0 and time.time() - last_save > 120:
            last_save = time.time()
            save(state_file, model, asked, opts, plan, step, warm_from)
    if rank == 0:
        save(state_file, model, asked, opts, plan, step, warm_from)
    say("end at step", step, flush=True)


def save(path, model, asked, opts, plan, step, warm_from):
    """Everything needed to go on, written atomically."""
    torch.save(dict(model=model.state_dict(), cues=asked.state_dict(), opt=[p.state_dict() for p in opts], warm_from=warm_from, plan=plan.__dict__, step=step), path + ".new")
    os.replace(path + ".new", path)


def main():
    """Start the processes; each has one thread, which on few cores is faster than many threads in one."""
    a = argparse.ArgumentParser()
    a.add_argument("work")
    a.add_argument("--until", type=float, required=True)
    a.add_argument("--anneal", type=float, default=1500)
    a.add_argument("--tokenizer", default=os.path.join(os.path.dirname(__file__), ".."))
    a.add_argument("--rate", type=float, default=1e-3)
    a.add_argument("--muon", type=float, default=1.0, help="rate of the matrices relative to the rest")
    a.add_argument("--cues", type=float, default=0.5, help="weight of the questions to the patches")
    a.add_argument("--batch", type=int, default=64)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--processes", type=int, default=2)
    o = a.parse_args()
    os.makedirs(o.work, exist_ok=True)
    meet = os.path.join(o.work, "meet")
    if os.path.exists(meet):
        os.remove(meet)
    others = [multiprocessing.Process(target=work, args=(r, o.processes, o), daemon=True) for r in range(1, o.processes)]
    for p in others:
        p.start()
    work(0, o.processes, o)
    for p in others:
        p.join(30)


if __name__ == "__main__":
    main()

"""Grow a checkpoint of train.py to the sizes that model.py states now, keeping what it computes (nearly: positions are interpolated).

usage: grow.py OLD_STATE NEW_STATE
New vision blocks come last and start as the identity; new hidden units of the vision MLP start without effect; positions of a
larger input are interpolated. The optimizers start afresh.
"""
import sys

import torch
import torch.nn.functional as F

from model import NANO

VIT = "vision_model."


def deepen(weights, layers):
    """Repeats the last block with its two ways back into the residual stream at zero."""
    have = 1 + max(int(name.split(".")[3]) for name in weights if name.startswith(VIT + "trunk.blocks."))
    for new in range(have, layers):
        for name in [n for n in weights if n.startswith(f"{VIT}trunk.blocks.{have - 1}.")]:
            copy = weights[name].clone()
            if name.endswith(("attn.proj.weight", "mlp.fc2.weight")):
                copy.zero_()
            weights[name.replace(f"blocks.{have - 1}.", f"blocks.{new}.")] = copy


def widen(weights, inter):
    """Adds hidden units to every vision MLP: random in, zero out."""
    for name in [n for n in weights if n.startswith(VIT) and n.endswith("mlp.fc2.weight")]:
        back = weights[name]
        more = inter - back.shape[1]
        if more > 0:
            weights[name] = torch.cat([back, torch.zeros(back.shape[0], more)], 1)
            for part in ("fc1", "fc3"):
                way = weights[name.replace("fc2", part)]
                weights[name.replace("fc2", part)] = torch.cat([way, torch.randn(more, way.shape[1]) * way.std()])


def enlarge(weights, grid):
    """Interpolates the learned positions to grid x grid patches."""
    name = VIT + "preprocessor.pos_embed"
    position = weights[name]
    have = int(position.shape[1] ** 0.5)
    square = position.view(1, have, have, -1).permute(0, 3, 1, 2)
    larger = F.interpolate(square, (grid, grid), mode="bicubic", align_corners=False)
    weights[name] = larger.permute(0, 2, 3, 1).reshape(1, grid * grid, -1).contiguous()


def main(old, new):
    """Read, grow, write."""
    torch.manual_seed(3)
    state = torch.load(old, weights_only=False)
    deepen(state["model"], NANO["vit"]["layers"])
    widen(state["model"], NANO["vit"]["inter"])
    enlarge(state["model"], NANO["image_size"] // NANO["patch_size"])
    state.pop("opt")
    state["warm_from"] = state["step"]
    torch.save(state, new)


if __name__ == "__main__":
    main(*sys.argv[1:])

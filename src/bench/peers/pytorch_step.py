"""One training step of a dense SAIL-VL2 model in PyTorch, on the processor in float32: what `bench train` compares with.

Reads the folder that `pytorch.ts` writes: `step.json`, and the batch as raw files. Prints one line of JSON: the version,
loss and gradient norm of the first step, and the seconds of the measured ones. The same step as ours: all weights learn,
cross-entropy over the scored rows alone, the gradient's global norm is clipped, AdamW decays matrices only.
"""
import json
import sys
import time

import numpy
import torch
import torch.nn.functional as F


def load(path):
    """Tensors of a safetensors file as float32 leaves, by name."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        data = bytearray(file.read())
    kinds = {"BF16": torch.bfloat16, "F32": torch.float32, "F16": torch.float16}
    out = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        kind = kinds[entry["dtype"]]
        flat = torch.frombuffer(data, dtype=kind, count=(end - start) // kind.itemsize, offset=start)
        out[name] = flat.reshape(entry["shape"]).float().clone().requires_grad_()
    return out


def heads_of(x, count):
    """[B, N, heads * d] -> [B, heads, N, d]"""
    batch, rows, width = x.shape
    return x.view(batch, rows, count, width // count).transpose(1, 2)


def attend(q, k, v, causal):
    """[B, heads, N, d] -> [B, N, heads * d]"""
    if k.shape[1] != q.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)


def rotated(x, cos, sin):
    """Rotate-half RoPE."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class Step:
    """The model's program over one batch of samples of equal length, one tile each."""

    def __init__(self, weights, config):
        self.weights, self.config = weights, config

    def norm(self, x, name, epsilon):
        """RMSNorm by the gain of that name."""
        return F.rms_norm(x, (x.shape[-1],), self.weights[name], epsilon)

    def linear(self, x, name):
        """A product with the matrix of that name, and its bias where it has one."""
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def vision(self, tiles):
        """u8 [B, S, S, 3] -> visual tokens [B, N / 4, H]"""
        c, w = self.config["vision"], self.weights
        mean, deviation = (torch.tensor(c[key]) for key in ("mean", "deviation"))
        pixels = ((tiles / 255 - mean) / deviation).bfloat16().float()
        batch, side, patch = len(tiles), c["tileSize"] // c["patchSize"], c["patchSize"]
        x = pixels.view(batch, side, patch, side, patch, 3).permute(0, 1, 3, 5, 2, 4).reshape(batch, side * side, -1)
        name = "vision_model.preprocessor.patchifier.proj"
        x = F.linear(x, w[f"{name}.weight"].flatten(1), w[f"{name}.bias"])
        x = self.norm(x, "vision_model.preprocessor.patchifier.norm.weight", c["epsilon"])
        x = x + w["vision_model.preprocessor.pos_embed"]
        for i in range(c["layers"]):
            block = f"vision_model.trunk.blocks.{i}"
            y = self.linear(self.norm(x, f"{block}.norm_1.weight", c["epsilon"]), f"{block}.attn.qkv")
            q, k, v = (heads_of(part, c["heads"]) for part in y.chunk(3, -1))
            x = x + self.linear(attend(q, k, v, False), f"{block}.attn.proj")
            y = self.norm(x, f"{block}.norm_2.weight", c["epsilon"])
            y = F.silu(self.linear(y, f"{block}.mlp.fc1")) * self.linear(y, f"{block}.mlp.fc3")
            x = x + self.linear(y, f"{block}.mlp.fc2")
        x = self.norm(x, "vision_model.trunk.post_trunk_norm.weight", c["epsilon"])
        width = x.shape[-1]
        x = x.view(batch, side // 2, 2, side // 2, 2, width).permute(0, 1, 3, 2, 4, 5).reshape(batch, -1, 4 * width)
        x = F.layer_norm(x, (4 * width,), w["mlp1.0.weight"], w["mlp1.0.bias"])
        return self.linear(F.gelu(self.linear(x, "mlp1.1")), "mlp1.3")

    def logits(self, batch):
        """Logits of the scored rows [K, V]."""
        c, w = self.config["decoder"], self.weights
        count, length = batch["ids"].shape
        table = w["language_model.model.embed_tokens.weight"]
        visual = self.vision(batch["tiles"]).flatten(0, 1)
        x = F.embedding(batch["ids"].flatten(), table).index_copy(0, batch["visualRows"], visual)
        x = x.view(count, length, -1)
        for i in range(c["layers"]):
            layer = f"language_model.model.layers.{i}"
            x = x + self.attention(self.norm(x, f"{layer}.input_layernorm.weight", c["epsilon"]), f"{layer}.self_attn", batch)
            y = self.norm(x, f"{layer}.post_attention_layernorm.weight", c["epsilon"])
            y = F.silu(self.linear(y, f"{layer}.mlp.gate_proj")) * self.linear(y, f"{layer}.mlp.up_proj")
            x = x + self.linear(y, f"{layer}.mlp.down_proj")
        x = x.flatten(0, 1).index_select(0, batch["scoredRows"])
        x = self.norm(x, "language_model.model.norm.weight", c["epsilon"])
        return F.linear(x, table)

    def attention(self, x, name, batch):
        """Qwen3 attention of one layer."""
        c = self.config["decoder"]
        q = self.norm(heads_of(self.linear(x, f"{name}.q_proj"), c["heads"]), f"{name}.q_norm.weight", c["epsilon"])
        k = self.norm(heads_of(self.linear(x, f"{name}.k_proj"), c["kvHeads"]), f"{name}.k_norm.weight", c["epsilon"])
        v = heads_of(self.linear(x, f"{name}.v_proj"), c["kvHeads"])
        q, k = (rotated(part, batch["cos"], batch["sin"]) for part in (q, k))
        return self.linear(attend(q, k, v, True), f"{name}.o_proj")


def read_batch(folder, request):
    """The batch's files as tensors, and the rotations of its positions."""
    def read(name, kind):
        return torch.from_numpy(numpy.fromfile(f"{folder}/{name}", dtype=kind))
    count, side = request["samples"], request["config"]["vision"]["tileSize"]
    rows = {name: read(f"{name}.bin", "<i4").long() for name in ("ids", "visualRows", "scoredRows", "targets")}
    ids = rows.pop("ids").view(count, -1)
    decoder = request["config"]["decoder"]
    half = torch.arange(0, decoder["headWidth"], 2) / decoder["headWidth"]
    angles = torch.outer(torch.arange(ids.shape[1]).float(), decoder["ropeTheta"] ** -half)
    angles = torch.cat([angles, angles], -1)
    tiles = read("tiles.bin", "u1").view(count, side, side, 3)
    return {**rows, "ids": ids, "tiles": tiles, "cos": angles.cos(), "sin": angles.sin()}


def main(folder):
    """Measures."""
    with open(f"{folder}/step.json") as file:
        request = json.load(file)
    torch.set_num_threads(request["threads"])
    weights = load(request["weights"])
    batch = read_batch(folder, request)
    step = Step(weights, request["config"])
    settings = request["optimizer"]
    decaying = [name for name, weight in weights.items() if weight.ndim > 1 and not name.endswith("pos_embed")]
    groups = [
        {"params": [weights[name] for name in decaying], "weight_decay": settings["weightDecay"]},
        {"params": [weights[name] for name in weights if name not in decaying], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings["rate"], betas=tuple(settings["betas"]), eps=settings["epsilon"], fused=True)
    first, seconds = None, []
    for i in range(request["warmups"] + request["repeats"]):
        start = time.perf_counter()
        loss = F.cross_entropy(step.logits(batch), batch["targets"])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(weights.values()), settings["clipNorm"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        figures = {"loss": loss.item(), "gradientNorm": norm.item()}
        if first is None:
            first = figures
        if i >= request["warmups"]:
            seconds.append(time.perf_counter() - start)
    print(json.dumps({"version": torch.__version__, **first, "seconds": seconds}))


main(sys.argv[1])

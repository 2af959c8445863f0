"""A small PyTorch implementation of the SAIL-VL2 architecture, with the tensor names of the released checkpoints.

The module tree is laid out so that `state_dict()` has exactly the names of a Hugging Face
SAIL-VL2 folder; export is therefore only a cast to bfloat16 and a `save_file`.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

# The numbers that `config.json` is written from (see export.py) and that training uses.
NANO = dict(
    image_size=224, patch_size=14,
    vit=dict(hidden=128, inter=768, layers=4, heads=4, eps=1e-5),
    llm=dict(hidden=128, inter=344, layers=3, heads=4, kv_heads=4, head_dim=32, eps=1e-6, rope_theta=10000.0, max_pos=2048),
)


class RMSNorm(nn.Module):
    """Root-mean-square norm with a learned gain."""

    def __init__(self, dim, eps):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight, self.eps)


def attend(q, k, v, mask=None):
    """Attention over [B,heads,N,hd] as three plain batched products (on a CPU in bfloat16 much faster than the fused call)."""
    b, h, n, hd = q.shape
    q, k, v = (t.reshape(b * h, -1, hd) for t in (q * hd ** -0.5, k, v))
    s = torch.bmm(q, k.transpose(1, 2))
    if mask is not None:
        s = s + mask
    return torch.bmm(s.softmax(-1), v).view(b, h, n, hd)


class VitAttention(nn.Module):
    """Full attention inside one tile; rows of `qkv` are all queries, all keys, all values."""

    def __init__(self, c):
        super().__init__()
        self.heads = c["heads"]
        self.qkv = nn.Linear(c["hidden"], 3 * c["hidden"], bias=False)
        self.proj = nn.Linear(c["hidden"], c["hidden"], bias=False)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = attend(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(b, n, d))


class VitMlp(nn.Module):
    """SwiGLU: fc1 is the gate, fc3 the linear branch, fc2 the way back."""

    def __init__(self, c):
        super().__init__()
        self.fc1 = nn.Linear(c["hidden"], c["inter"], bias=False)
        self.fc2 = nn.Linear(c["inter"], c["hidden"], bias=False)
        self.fc3 = nn.Linear(c["hidden"], c["inter"], bias=False)

    def forward(self, x):
        return self.fc2(F.silu(self.fc1(x)) * self.fc3(x))


class VitBlock(nn.Module):
    """Pre-norm transformer block of SAIL-ViT."""

    def __init__(self, c):
        super().__init__()
        self.norm_1 = RMSNorm(c["hidden"], c["eps"])
        self.attn = VitAttention(c)
        self.norm_2 = RMSNorm(c["hidden"], c["eps"])
        self.mlp = VitMlp(c)

    def forward(self, x):
        x = x + self.attn(self.norm_1(x))
        return x + self.mlp(self.norm_2(x))


class Patchifier(nn.Module):
    """Patch convolution (done as one matrix product over unfolded patches) and its norm."""

    def __init__(self, c, patch):
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(3, c["hidden"], patch, patch)
        self.norm = RMSNorm(c["hidden"], c["eps"])

    def forward(self, x):
        b, _, h, w = x.shape
        p = self.patch
        x = x.view(b, 3, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5).reshape(b, (h // p) * (w // p), 3 * p * p)
        return self.norm(F.linear(x, self.proj.weight.flatten(1), self.proj.bias))


class Preprocessor(nn.Module):
    """Patches, then the learned position, whose start is large: the patch norm gives every
    patch unit size, so a position started at 0.02 is invisible and reading never begins."""

    def __init__(self, c, image, patch):
        super().__init__()
        self.patchifier = Patchifier(c, patch)
        self.pos_embed = nn.Parameter(torch.randn(1, (image // patch) ** 2, c["hidden"]) * 0.7)

    def forward(self, x):
        return self.patchifier(x) + self.pos_embed


class Trunk(nn.Module):
    """The blocks and the norm after the last one."""

    def __init__(self, c):
        super().__init__()
        self.blocks = nn.ModuleList(VitBlock(c) for _ in range(c["layers"]))
        self.post_trunk_norm = RMSNorm(c["hidden"], c["eps"])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.post_trunk_norm(x)


class Vit(nn.Module):
    """SAIL-ViT."""

    def __init__(self, cfg):
        super().__init__()
        self.preprocessor = Preprocessor(cfg["vit"], cfg["image_size"], cfg["patch_size"])
        self.trunk = Trunk(cfg["vit"])

    def forward(self, x):
        return self.trunk(self.preprocessor(x))


def rotate_half(x):
    """(a, b) -> (-b, a) on the two halves of the last dimension."""
    a, b = x.chunk(2, -1)
    return torch.cat([-b, a], -1)


class LlmAttention(nn.Module):
    """Qwen3 attention: per-head q/k norms before rotate-half RoPE, grouped key/value heads."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        d, hd = c["hidden"], c["head_dim"]
        self.q_proj = nn.Linear(d, c["heads"] * hd, bias=False)
        self.k_proj = nn.Linear(d, c["kv_heads"] * hd, bias=False)
        self.v_proj = nn.Linear(d, c["kv_heads"] * hd, bias=False)
        self.o_proj = nn.Linear(c["heads"] * hd, d, bias=False)
        self.q_norm = RMSNorm(hd, c["eps"])
        self.k_norm = RMSNorm(hd, c["eps"])

    def forward(self, x, where):
        """The heads' outputs side by side, before o_proj, for the flat rows `x` laid out as `where` says."""
        c = self.c
        hd = c["head_dim"]
        q = self.q_norm(self.q_proj(x).view(-1, c["heads"], hd))
        k = self.k_norm(self.k_proj(x).view(-1, c["kv_heads"], hd))
        v = self.v_proj(x).view(-1, c["kv_heads"], hd)
        q, k = (t * where.cos + rotate_half(t) * where.sin for t in (q, k))
        if c["kv_heads"] != c["heads"]:
            k, v = (t.repeat_interleave(c["heads"] // c["kv_heads"], 1) for t in (k, v))
        p, b = where.common, where.batch
        (q0, q1), (k0, k1), (v0, v1) = ((t[:p].unsqueeze(0).transpose(1, 2), t[p:].view(b, -1, c["heads"], hd).transpose(1, 2)) for t in (q, k, v))
        k1, v1 = (torch.cat([a.expand(b, -1, -1, -1), t], 2) for a, t in ((k0, k1), (v0, v1)))
        out = attend(q1, k1, v1, where.mask[p:]).transpose(1, 2).reshape(x.shape[0] - p, -1)
        if p:
            out = torch.cat([attend(q0, k0, v0, where.mask[:p, :p]).transpose(1, 2).reshape(p, -1), out])
        return out


class Layout:
    """Flat rows of the language model: `common` leading positions that all conversations of the batch share (computed once),
    then the rest of every conversation; with the rotary angles of each row and the causal mask."""

    def __init__(self, batch, length, common, cos, sin):
        self.batch, self.common = batch, common
        at = torch.cat([torch.arange(common), torch.arange(common, length).repeat(batch)])
        self.cos, self.sin = cos[at].unsqueeze(1), sin[at].unsqueeze(1)
        self.mask = torch.full((length, length), float("-inf")).triu(1)

    def rows(self, flat, length):
        """Flat position in [B,L] -> row here."""
        return self.common + flat // length * (length - self.common) + flat % length - self.common


class LlmMlp(nn.Module):
    """SwiGLU with the Qwen names."""

    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c["hidden"], c["inter"], bias=False)
        self.up_proj = nn.Linear(c["hidden"], c["inter"], bias=False)
        self.down_proj = nn.Linear(c["inter"], c["hidden"], bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class LlmLayer(nn.Module):
    """Pre-norm decoder layer."""

    def __init__(self, c):
        super().__init__()
        self.input_layernorm = RMSNorm(c["hidden"], c["eps"])
        self.self_attn = LlmAttention(c)
        self.post_attention_layernorm = RMSNorm(c["hidden"], c["eps"])
        self.mlp = LlmMlp(c)

    def forward(self, x, where, pick=None):
        y = self.self_attn(self.input_layernorm(x), where)
        if pick is not None:  # the last layer is finished only where an answer is read off
            x, y = x[pick], y[pick]
        x = x + self.self_attn.o_proj(y)
        return x + self.mlp(self.post_attention_layernorm(x))


class LlmModel(nn.Module):
    """Embedding, layers, final norm."""

    def __init__(self, c, vocab):
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab, c["hidden"])
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        self.layers = nn.ModuleList(LlmLayer(c) for _ in range(c["layers"]))
        self.norm = RMSNorm(c["hidden"], c["eps"])


class Llm(nn.Module):
    """Only the `language_model.` prefix; the head is tied to the embedding."""

    def __init__(self, c, vocab):
        super().__init__()
        self.model = LlmModel(c, vocab)


class Nano(nn.Module):
    """The whole model. `forward` returns logits only at the chosen flat positions."""

    def __init__(self, vocab, cfg=NANO):
        super().__init__()
        self.cfg = cfg
        v, l = cfg["vit"], cfg["llm"]
        self.vision_model = Vit(cfg)
        self.mlp1 = nn.Sequential(nn.LayerNorm(4 * v["hidden"], eps=1e-5), nn.Linear(4 * v["hidden"], l["hidden"]), nn.GELU(),
                                  nn.Linear(l["hidden"], l["hidden"]))
        self.language_model = Llm(l, vocab)
        inv = l["rope_theta"] ** (-torch.arange(0, l["head_dim"], 2).float() / l["head_dim"])
        ang = torch.outer(torch.arange(l["max_pos"]).float(), inv)
        ang = torch.cat([ang, ang], -1)
        self.register_buffer("cos", ang.cos(), persistent=False)
        self.register_buffer("sin", ang.sin(), persistent=False)

    def merge(self, x):
        """ViT output [B,N,d] -> visual tokens [B,N/4,H]: 2x2 merge (ps_version v2), adapter."""
        b, n, d = x.shape
        g = int(n ** 0.5)
        x = x.view(b, g // 2, 2, g // 2, 2, d).permute(0, 1, 3, 2, 4, 5).reshape(b, n // 4, 4 * d)
        return self.mlp1(x)

    def forward(self, pixels, ids, slot, pick, common=0):
        """(logits at the flat positions `pick` of [B,L], ViT output [B,N,d]). `slot` is the visual-token number at image positions and -1 elsewhere;
        the first `common` columns of `ids` are text and the same in every row."""
        lm = self.language_model.model
        (b, n), d = ids.shape, lm.embed_tokens.weight.shape[1]
        slot = slot[:, common:]
        x = lm.embed_tokens(ids[:, common:])
        seen = self.vision_model(pixels)
        img = self.merge(seen).float().gather(1, slot.clamp(min=0).unsqueeze(-1).expand(-1, -1, d))
        x = torch.where((slot >= 0).unsqueeze(-1), img, x).flatten(0, 1)
        x = torch.cat([lm.embed_tokens(ids[0, :common]), x])
        where = Layout(b, n, common, self.cos, self.sin)
        for layer in lm.layers[:-1]:
            x = layer(x, where)
        x = lm.layers[-1](x, where, where.rows(pick, n))
        return F.linear(lm.norm(x), lm.embed_tokens.weight), seen

"""The InternVL-Chat-V1-2 architecture in PyTorch, at any size, with the tensor names of the published checkpoint.

ViT (full-width q/k RMS norm, layer scale, exact GELU) -> pixel shuffle -> projector -> Llama decoder (GQA, rotary).
Training code: it computes losses over many conversations at once, may look at a part of the patches only, and has no cache.
The order of the patches (pixel shuffle v1) is the caller's.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn


class RmsNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


class Attention(nn.Module):
    """Bidirectional; q and k are normed over all heads together, before the split."""

    def __init__(self, width, heads, eps):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm, self.k_norm = RmsNorm(width, eps), RmsNorm(width, eps)
        self.proj = nn.Linear(width, width)

    def forward(self, x):  # [B, N, C]
        b, n, c = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (t.view(b, n, self.heads, c // self.heads).transpose(1, 2) for t in (self.q_norm(q), self.k_norm(k), v))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class VisionMlp(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class VisionLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, eps = c["hidden_size"], c["layer_norm_eps"]
        self.norm1, self.norm2 = RmsNorm(width, eps), RmsNorm(width, eps)
        self.attn = Attention(width, c["num_attention_heads"], eps)
        self.mlp = VisionMlp(width, c["intermediate_size"])
        # The published 0.1 suits 45 layers; a few layers learn faster when their branches start at full strength.
        self.ls1, self.ls2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, x):
        x = x + self.attn(self.norm1(x)) * self.ls1
        return x + self.mlp(self.norm2(x)) * self.ls2


class VisionModel(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, patch = c["hidden_size"], c["patch_size"]
        side = c["image_size"] // patch
        self.embeddings = nn.Module()
        self.embeddings.class_embedding = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.embeddings.patch_embedding = nn.Conv2d(3, width, patch, patch)
        self.embeddings.position_embedding = nn.Parameter(torch.zeros(1, side * side + 1, width))
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(VisionLayer(c) for _ in range(c["num_hidden_layers"]))

    def forward(self, patches, rows):
        """patches [B, N, 3 * 14 * 14] and their numbers [B, N] in the picture -> [B, N, C], class token dropped"""
        kernel, e = self.embeddings.patch_embedding, self.embeddings
        position = e.position_embedding[0]
        x = F.linear(patches, kernel.weight.flatten(1), kernel.bias) + position[1:][rows]
        x = torch.cat([(e.class_embedding[0] + position[:1]).expand(x.shape[0], 1, -1), x], dim=1)
        for layer in self.encoder.layers:
            x = layer(x)
        return x[:, 1:]


def rotate_half(x):
    a, b = x.chunk(2, dim=-1)
    return torch.cat([-b, a], dim=-1)


class SelfAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        width = c["hidden_size"]
        self.heads, self.kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        self.size = width // self.heads
        self.q_proj = nn.Linear(width, self.heads * self.size, bias=False)
        self.k_proj = nn.Linear(width, self.kv_heads * self.size, bias=False)
        self.v_proj = nn.Linear(width, self.kv_heads * self.size, bias=False)
        self.o_proj = nn.Linear(self.heads * self.size, width, bias=False)

    def forward(self, x, cos, sin, mask):
        b, n, _ = x.shape
        q, k, v = (
            f(x).view(b, n, h, self.size).transpose(1, 2)
            for f, h in ((self.q_proj, self.heads), (self.k_proj, self.kv_heads), (self.v_proj, self.kv_heads))
        )
        q, k = (t * cos + rotate_half(t) * sin for t in (q, k))
        group = self.heads // self.kv_heads  # query head h reads kv head h // group
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(o.transpose(1, 2).reshape(b, n, -1))


class LanguageMlp(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, eps = c["hidden_size"], c["rms_norm_eps"]
        self.input_layernorm, self.post_attention_layernorm = RmsNorm(width, eps), RmsNorm(width, eps)
        self.self_attn, self.mlp = SelfAttention(c), LanguageMlp(width, c["intermediate_size"])

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class LanguageModel(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, width = c, c["hidden_size"]
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(c["vocab_size"], width)
        self.model.layers = nn.ModuleList(DecoderLayer(c) for _ in range(c["num_hidden_layers"]))
        self.model.norm = RmsNorm(width, c["rms_norm_eps"])
        self.lm_head = nn.Linear(width, c["vocab_size"], bias=False)
        nn.init.normal_(self.model.embed_tokens.weight, std=0.5)

    def forward(self, x, positions, mask):
        """x [B, N, C], positions [B, N], mask bool [B, 1, N, N] (true: may look) -> normed states [B, N, C]"""
        size = self.c["hidden_size"] // self.c["num_attention_heads"]
        inv_freq = 1.0 / (self.c["rope_theta"] ** (torch.arange(0, size, 2).float() / size))
        angle = positions[..., None].float() * inv_freq
        angle = torch.cat([angle, angle], dim=-1)[:, None]
        cos, sin = angle.cos(), angle.sin()
        for layer in self.model.layers:
            x = layer(x, cos, sin, mask)
        return self.model.norm(x)


@torch.no_grad()
def start_local(vision):
    """Starts the vision part as a convolution would: head by head, a patch looks at the patch some steps to one side.

    Learning from scratch what is near what takes many more pictures than this training has. Half of the width starts as sines
    and cosines of row and column; q and k turn them so that their product peaks at the head's step. All of it stays trainable.
    """
    e, layers = vision.embeddings, vision.encoder.layers
    width, heads = e.class_embedding.shape[-1], layers[0].attn.heads
    side, size, axis = math.isqrt(e.position_embedding.shape[1] - 1), width // heads, width // 4
    waves = 2 * math.pi / torch.logspace(math.log10(2 * side), math.log10(6), axis // 2)  # radians a patch
    angle = torch.arange(side).float()[:, None] * waves
    along = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)  # [side, axis]
    e.position_embedding[0, 1:, :axis] = along.repeat_interleave(side, dim=0)
    e.position_embedding[0, 1:, axis : 2 * axis] = along.repeat(side, 1)
    e.patch_embedding.weight[: 2 * axis] *= 0.1
    used = torch.linspace(0, axis // 2 - 1, size // 4).round().long()  # the waves that a head compares, along each axis
    for number, layer in enumerate(layers):
        layer.attn.proj.weight[: 2 * axis] *= 0.1
        layer.mlp.fc2.weight[: 2 * axis] *= 0.1
        layer.attn.q_norm.weight.fill_(3.0)
        q, k, _ = layer.attn.qkv.weight.chunk(3)
        q.mul_(0.1), k.mul_(0.1)
        for head in range(heads):
            turn = math.pi / 4 * (2 * head + number % 2)
            distance = 0 if head == heads - 1 else 2 * (number + 1)
            for half, steps in enumerate((distance * math.sin(turn), distance * math.cos(turn))):
                for pair, wave in enumerate(used):
                    row, column = head * size + half * size // 2 + 2 * pair, half * axis + 2 * wave
                    c, s = math.cos(waves[wave] * steps), math.sin(waves[wave] * steps)
                    q[row : row + 2, column : column + 2] += torch.tensor([[c, s], [-s, c]])
                    k[row : row + 2, column : column + 2] += torch.eye(2)


class InternVL(nn.Module):
    def __init__(self, config):
        super().__init__()
        vision, llm = config["vision_config"], config["llm_config"]
        shuffled, width = 4 * vision["hidden_size"], llm["hidden_size"]
        self.vision_model = VisionModel(vision)
        self.mlp1 = nn.Sequential(nn.LayerNorm(shuffled), nn.Linear(shuffled, width), nn.GELU(), nn.Linear(width, width))
        self.language_model = LanguageModel(llm)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        start_local(self.vision_model)

    def encode(self, patches, rows):
        """[B, 4 * T, 588], the four patches of an image token beside each other, as pixel shuffle puts them -> [B, T, C]"""
        x = self.vision_model(patches, rows)
        return self.mlp1(x.reshape(x.shape[0], -1, 4 * x.shape[-1]))

    def embed(self, ids, image_id, image_tokens=None):
        """Token embeddings [B, N, C] with the image tokens in place of the image ids."""
        x = self.language_model.model.embed_tokens(ids)
        if image_tokens is None:
            return x
        where = ids == image_id
        return x.masked_scatter(where[..., None], image_tokens)

"""The demo model: a small Llama with Locret retaining heads. Parameters are named as on the Hugging Face hub.

Shapes: hidden states [B, n, d]; q [B, n, Hq, D]; k, v [B, n, Hkv, D]; retaining scores [B, n, Hkv].
The residual stream is float32; matrix products run in bfloat16 under autocast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right


@dataclass(frozen=True)
class Config:
    vocab: int = 4096
    hidden: int = 256
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    intermediate: int = 704
    rope_theta: float = 500000.0
    norm_eps: float = 1e-5
    retaining_hidden: int = 128


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return scaled.to(x.dtype) * self.weight.to(x.dtype)


def rope(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """Rotary embedding in the rotate_half layout: x [B, n, H, D], positions [n]."""
    size = x.shape[-1]
    steps = torch.arange(0, size, 2, device=x.device, dtype=torch.float32)
    angle = positions.float()[:, None] * theta ** (-steps / size)
    cos, sin = angle.cos()[None, :, None], angle.sin()[None, :, None]
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q [B, n, Hq, D] over k, v [B, m, Hkv, D], m >= n; the last n keys are masked causally."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    n, m, group = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    if n == m and q.dtype == torch.bfloat16:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    else:  # the fused float32 kernels know no grouped queries
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        if n == m:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=causal_lower_right(n, m))
    return out.transpose(1, 2)


class Attention(nn.Module):
    """Projections of one layer and its retaining heads (fc1, fc2, no bias)."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        q_size, kv_size = c.heads * c.head_dim, c.kv_heads * c.head_dim
        self.q_proj, self.o_proj = linear(c.hidden, q_size), linear(q_size, c.hidden)
        self.k_proj, self.v_proj = linear(c.hidden, kv_size), linear(c.hidden, kv_size)
        self.fc1 = linear(q_size + 2 * kv_size, c.retaining_hidden)
        self.fc2 = linear(c.retaining_hidden, c.kv_heads)


class MLP(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (linear(c.hidden, c.intermediate) for _ in range(2))
        self.down_proj = linear(c.intermediate, c.hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.config = c
        self.input_layernorm = RMSNorm(c.hidden, c.norm_eps)
        self.post_attention_layernorm = RMSNorm(c.hidden, c.norm_eps)
        self.self_attn, self.mlp = Attention(c), MLP(c)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> q [B, n, Hq * D], k and v [B, n, Hkv * D], before RoPE."""
        h, a = self.input_layernorm(x), self.self_attn
        return a.q_proj(h), a.k_proj(h), a.v_proj(h)

    def retaining_scores(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Flat projections -> [B, n, Hkv]."""
        a = self.self_attn
        return a.fc2(F.silu(a.fc1(torch.cat((q, k, v), -1))))

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Flat projections -> q, k with RoPE and v, each [B, n, H, D]."""
        size, theta = self.config.head_dim, self.config.rope_theta
        q, k, v = (t.unflatten(-1, (-1, size)) for t in (q, k, v))
        return rope(q, positions, theta), rope(k, positions, theta), v

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Residual stream and attention output [B, n, Hq, D] -> residual stream after the layer."""
        x = x + self.self_attn.o_proj(attended.flatten(-2))
        return x + self.mlp(self.post_attention_layernorm(x))


class Model(nn.Module):
    def __init__(self, config: Config = Config()) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab, config.hidden)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden, config.norm_eps)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                out = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=0.02 / (math.sqrt(2 * config.layers) if out else 1))

    def forward(self, ids: Tensor) -> Tensor:
        """ids [B, n] -> final hidden states [B, n, d], full causal attention."""
        x = self.embed_tokens(ids)
        positions = torch.arange(ids.shape[1], device=ids.device)
        for layer in self.layers:
            x = layer.finish(x, attention(*layer.rotate(*layer.project(x), positions)))
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., d] -> [..., vocab]; the embedding is tied."""
        return F.linear(hidden, self.embed_tokens.weight.to(hidden.dtype))


def retaining(name: str) -> bool:
    """Whether a parameter belongs to the retaining heads."""
    return ".fc1." in name or ".fc2." in name


def load_exported(model: Model, folder: Path) -> Model:
    """The bfloat16 weights and heads of a folder as shipped, held in float32."""
    for name in ("model.safetensors", "retaining_heads.safetensors"):
        part = {k.removeprefix("model."): v.float() for k, v in load_file(folder / name).items()}
        model.load_state_dict(part, strict=False)
    return model

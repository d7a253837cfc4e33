"""What a layer's retaining heads see and what they should say, read out of a Hugging Face model while it runs.

Shapes: n document tokens, t answer tokens, Hq query and Hkv key-value heads of D, R hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

FAMILIES = ("llama", "qwen2")


@dataclass(frozen=True)
class Seen:
    """One layer of one sample: `flat` [n + t, (Hq + 2 Hkv) D] is q, k, v before RoPE; q, k [H, n + t, D] are behind it."""

    layer: int
    flat: Tensor
    q: Tensor
    k: Tensor


class Heads(nn.Module):
    """fc1 [R, (Hq + 2 Hkv) D] and fc2 [Hkv, R] of each layer, named as the published ones are."""

    def __init__(self, config, hidden: int) -> None:
        super().__init__()
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        width = (config.num_attention_heads + 2 * config.num_key_value_heads) * size
        self.fc1 = nn.ModuleList(nn.Linear(width, hidden, bias=False) for _ in range(config.num_hidden_layers))
        self.fc2 = nn.ModuleList(nn.Linear(hidden, config.num_key_value_heads, bias=False) for _ in range(config.num_hidden_layers))

    def scores(self, layer: int, flat: Tensor) -> Tensor:
        """[n, (Hq + 2 Hkv) D] -> [n, Hkv] float32."""
        return self.fc2[layer](nn.functional.silu(self.fc1[layer](flat))).float()

    def tensors(self) -> dict[str, Tensor]:
        """As the engine loads them."""
        return {f"model.layers.{i}.self_attn.{name}.weight": linear.weight.detach().to(torch.bfloat16).cpu().contiguous()
                for name, linears in (("fc1", self.fc1), ("fc2", self.fc2)) for i, linear in enumerate(linears)}

    def take(self, tensors: dict[str, Tensor]) -> None:
        """@raises SystemExit when a tensor is missing or has another shape."""
        for name, linears in (("fc1", self.fc1), ("fc2", self.fc2)):
            for i, linear in enumerate(linears):
                key = f"model.layers.{i}.self_attn.{name}.weight"
                found = tensors.get(key)
                if found is None or found.shape != linear.weight.shape:
                    raise SystemExit(f"{key} must be {list(linear.weight.shape)} and is {found if found is None else list(found.shape)}")
                linear.weight.data.copy_(found)


def watch(model, visit: Callable[[Seen], None]) -> list:
    """Has `visit` called in each layer of every later forward pass, with gradients on; returns the hooks."""
    if model.config.model_type not in FAMILIES:
        raise SystemExit(f"models of type {model.config.model_type} are not known; known are {', '.join(FAMILIES)}")
    hooks = []
    for index, layer in enumerate(model.layers):
        attention, parts = layer.self_attn, {}
        for name in ("q_proj", "k_proj", "v_proj"):
            def keep(_module, _inputs, output, name=name, parts=parts) -> None:
                parts[name] = output[0]
            hooks.append(getattr(attention, name).register_forward_hook(keep))

        def done(module, _args, kwargs, _output, index=index, parts=parts) -> None:
            q, k, v = (parts.pop(name) for name in ("q_proj", "k_proj", "v_proj"))
            heads = (t.unflatten(-1, (-1, module.head_dim)).transpose(0, 1)[None] for t in (q, k))
            q_turned, k_turned = apply_rotary_pos_emb(*heads, *kwargs["position_embeddings"])
            with torch.enable_grad():
                visit(Seen(index, torch.cat((q, k, v), -1), q_turned[0], k_turned[0]))
        hooks.append(attention.register_forward_hook(done, with_kwargs=True))
    return hooks


def labels(q: Tensor, k: Tensor) -> Tensor:
    """The largest logit before the softmax that a document's key gets: q [Hq, t, D] of the answer, k [Hkv, n, D] of the
    document -> [n, Hkv] float32."""
    group = q.shape[0] // k.shape[0]
    best = [torch.matmul(q[h * group:(h + 1) * group].flatten(0, 1).float(), k[h].float().T).amax(0) for h in range(k.shape[0])]
    return torch.stack(best, 1) / math.sqrt(q.shape[-1])


def standardised(values: Tensor) -> Tensor:
    """[n, Hkv] with mean 0 and deviation 1 per head."""
    return (values - values.mean(0)) / values.std(0).clamp_min(1e-6)

"""Checks the training of heads on tiny random models: fails with an exception if anything is off. Needs no GPU.

    python3 -m training.heads.check
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaModel, Qwen2Config, Qwen2Model

from .layers import Heads, labels, watch
from .recall import recall
from .run import Options, train
from .samples import Sample

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 300}
MODELS = {"llama": lambda kv: LlamaModel(LlamaConfig(num_key_value_heads=kv, attn_implementation="eager", **SIZES)),
          "qwen2": lambda kv: Qwen2Model(Qwen2Config(num_key_value_heads=kv, attn_implementation="eager", **SIZES))}


def check_against_attention(name: str) -> None:
    """With one answer token and no groups a label is the logarithm of the model's own attention, up to a constant."""
    model = MODELS[name](4).eval().requires_grad_(False)
    found: dict[int, torch.Tensor] = {}
    hooks = watch(model, lambda seen: found.__setitem__(seen.layer, labels(seen.q[:, -1:], seen.k[:, :40])))
    attention = model(torch.randint(0, 300, (1, 41)), output_attentions=True).attentions
    for layer, weights in enumerate(attention):
        wanted = weights[0, :, -1, :40].log().T
        gap = ((found[layer] - found[layer][:1]) - (wanted - wanted[:1])).abs().max().item()
        if gap > 1e-4:
            raise AssertionError(f"{name}, layer {layer}: labels and attention differ by {gap}")
    for hook in hooks:
        hook.remove()
    print(f"{name}: labels are the model's attention")


def check_labels() -> None:
    q, k = torch.randn(4, 3, 8), torch.randn(2, 10, 8)
    got = labels(q, k)
    for key in range(10):
        for head in range(2):
            best = max(q[h, t] @ k[head, key] / math.sqrt(8) for h in (2 * head, 2 * head + 1) for t in range(3))
            if abs(best - got[key, head]) > 1e-5:
                raise AssertionError("labels of grouped heads")
    print("labels are the largest logits of a group")


def check_recall() -> None:
    def peak(height: float) -> torch.Tensor:
        values = torch.rand(4000, 2) * 0.1
        values[7] = height
        return values

    whole = recall(peak(1), peak(1), 1, 4000)
    if whole != (1.0, 1.0):
        raise AssertionError(f"all keys are passed, and recall and chance are {whole}")
    seeing, blind = recall(peak(1), peak(1), 1, 5)[0], recall(peak(0), peak(1), 1, 5)[0]
    if seeing < 1 / 5 or blind > 1 / 10:
        raise AssertionError(f"one of five is seen, and recall is {seeing}; none is, and it is {blind}")
    noise = recall(torch.rand(4000, 2), torch.rand(4000, 2), 8, 50)[0]
    if abs(noise - 0.1) > 0.03:
        raise AssertionError(f"a random choice recalls {noise} where chance is 0.1")
    print("recall counts what is passed, and is chance for noise")


def check_resuming() -> None:
    """A run that was stopped ends as one that was not, to the bit."""
    torch.manual_seed(1)
    model = MODELS["llama"](2).eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(2)
    some = [Sample(*(torch.randint(0, 300, (n,), generator=draw).tolist() for n in (64, 5, 3)), f"{i}") for i in range(5)]
    broken = [*some[:2], Sample(some[2].document, some[2].query, [999], "no such token"), *some[3:]]
    options = Options(4, 2, False, True, 4, 0)

    def heads() -> Heads:
        torch.manual_seed(3)
        return Heads(model.config, 16)

    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder) / "whole", Path(folder) / "parts"
        train(model, heads(), some[:4], some[4:], options, whole)
        try:
            train(model, heads(), broken[:4], some[4:], options, parts)
        except IndexError:
            pass
        else:
            raise AssertionError("the broken sample did not stop the run")
        train(model, heads(), some[:4], some[4:], options, parts)
        a, b = (load_file(run / "retaining_heads.safetensors") for run in (whole, parts))
        if any(not torch.equal(a[key], b[key]) for key in a):
            raise AssertionError("a stopped run ends otherwise")
    print("a stopped run goes on to the same heads")


if __name__ == "__main__":
    torch.manual_seed(0)
    for each in MODELS:
        check_against_attention(each)
    check_labels()
    check_recall()
    check_resuming()
    print("training.heads: checks passed")

"""The command line: see `python3 -m training.heads --help`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from .layers import Heads
from .run import Options, Reader, measure, train
from .samples import read_prompt, read_samples


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python3 -m training.heads", description=(
        "Trains retaining heads for a Hugging Face Llama or Qwen2 directory, or measures how good some are."))
    commands = p.add_subparsers(dest="command", required=True)
    for name, help_ in (("train", "train heads; the same command again goes on where it was stopped"),
                        ("recall", "measure heads on the held-out samples")):
        c = commands.add_parser(name, help=help_)
        c.add_argument("--model", type=Path, required=True, help="directory with config.json, weights and tokenizer")
        c.add_argument("--data", type=Path, required=True, help='JSONL: {"document", "question", "answer"}')
        c.add_argument("--held-out", type=int, default=32, help="samples at the end of the file that only measure (32)")
        c.add_argument("--tokens", type=int, default=10240, help="of a document at most (10240)")
        c.add_argument("--ranks", type=int, default=8, help="that recall cuts a document for (8)")
        c.add_argument("--passing", type=int, default=0, help="l_p of recall (an eighth of a block)")
        c.add_argument("--query", choices=("first", "last"), default="first", help="first: in front as well, as in an anchor (first)")
        c.add_argument("--standardised", action="store_true", help="labels with mean 0 and deviation 1 per head and document")
        c.add_argument("--device", default="cuda")
        if name == "train":
            c.add_argument("--out", type=Path, required=True, help="folder of the run; gets retaining_heads.safetensors")
            c.add_argument("--hidden", type=int, default=1024, help="hidden units of a head (1024)")
            c.add_argument("--steps", type=int, default=3000, help="samples to train on, again from the first when they end (3000)")
            c.add_argument("--keep-every", type=int, default=500, help="steps between saves (500)")
            c.add_argument("--seed", type=int, default=0)
        else:
            c.add_argument("--heads", type=Path, help="default: retaining_heads.safetensors of the model")
    return p.parse_args()


def main() -> None:
    a = parse()
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    samples = read_samples(a.data, read_prompt(a.model, tokenizer), tokenizer, a.tokens)
    if len(samples) <= a.held_out:
        raise SystemExit(f"{a.data} holds {len(samples)} samples and {a.held_out} are held out; add some, or give --held-out")
    dtype = torch.bfloat16 if a.device.startswith("cuda") else torch.float32
    model = AutoModel.from_pretrained(a.model, dtype=dtype, attn_implementation="sdpa").to(a.device).eval().requires_grad_(False)
    training = a.command == "train"
    options = Options(a.steps if training else 0, a.keep_every if training else 0, a.standardised, a.query == "first", a.ranks, a.passing)
    if training:
        torch.manual_seed(a.seed)
        heads = Heads(model.config, a.hidden).to(a.device)
        train(model, heads, samples[: -a.held_out], samples[-a.held_out:], options, a.out)
    else:
        tensors = load_file(a.heads or a.model / "retaining_heads.safetensors")
        first = tensors.get("model.layers.0.self_attn.fc1.weight")
        if first is None:
            raise SystemExit("the file holds no model.layers.0.self_attn.fc1.weight; it is no file of retaining heads")
        heads = Heads(model.config, first.shape[0]).to(a.device)
        heads.take(tensors)
        print(json.dumps(measure(Reader(model, heads, options), samples[-a.held_out:])))


if __name__ == "__main__":
    main()

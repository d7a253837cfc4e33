"""Checks the whole chain before a long run: fails with an exception if anything is off.

    python3 -m training.smoke --out SMOKE --filler kjv.txt --spaced 1 [--device cpu]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from .corpus import Filler
from .data import single_question, split_verses, stable_random, training_sample
from .model import Model
from .prefill import Method, extend, greedy, prefill, random_scores
from .tokenizer import Encoder
from .train import answer_loss, make_optimizers, prepare


def check(name: str, value: float, limit: float) -> None:
    print(f"{name}: {value:.3g} (limit {limit:g})", flush=True)
    if not value <= limit:
        raise AssertionError(name)


def check_samples(encode: Encoder, filler: Filler) -> None:
    r, began = stable_random("smoke"), time.time()
    samples = [training_sample(r, filler, encode, 2048) for _ in range(20)]
    print(f"samples: {20 * 2048 / (time.time() - began) / 1e3:.0f} K tokens/s in one process")
    ids, weights = samples[0]
    print("begins:", repr(encode.tokenizer.decode(ids[:60].tolist(), skip_special_tokens=False)))
    print("ends:", repr(encode.tokenizer.decode(ids[-120:].tolist(), skip_special_tokens=False)))
    print("answers:", repr(encode.tokenizer.decode(ids[weights == 1][:60].tolist())))
    # Answers must be found as they are mentioned.
    found = total = 0
    for i in range(60):
        case = single_question(stable_random("mention", i), filler, encode, 1024)
        text, want = case.document.tolist(), case.expected[:-2]  # without the full stop
        if len(want) < 9:  # one value, not a list
            total += 1
            found += any(text[j : j + len(want)] == want for j in range(len(text)))
    print(f"answers whose tokens are those of a mention: {found} of {total}")
    if encode.spaced:
        check("answers not mentioned", (total - found) / total, 0.1)


def check_methods(model: Model, encode: Encoder, filler: Filler, device: str) -> None:
    """Full prefill is the forward pass; APB that passes everything is full attention."""
    n = 1024
    cases = [single_question(stable_random("methods", i), filler, encode, n) for i in range(4)]
    documents = torch.stack([torch.from_numpy(c.document).long() for c in cases]).to(device)
    queries = [c.query for c in cases]
    asked = torch.tensor([(q + [0] * 64)[:64] for q in queries], device=device)
    with torch.no_grad():
        straight = model.logits(model(torch.cat((documents, asked), 1)))[:, n:]
        full = prefill(model, documents, queries, Method("full"))
        everything = prefill(model, documents, queries, Method("apb", 4, 0, n // 4))
        scale = straight.std().item()
        for name, cache in (("full vs forward", full), ("apb, everything passed, vs full", everything)):
            gap = (extend(model, asked, cache, n) - straight).abs().max().item()
            check(name, gap / scale, 1e-2)
        apb = prefill(model, documents, queries, Method("apb", 4, 64, 32))
        fast = greedy(model, apb, queries, [c.expected for c in cases], n, 12, encode.eos)
        for i, case in enumerate(cases):  # one token at a time
            own, tokens = [(k[i : i + 1], v[i : i + 1]) for k, v in apb], []
            while len(tokens) < 12 and encode.eos not in tokens:
                ids = torch.tensor([case.query + tokens], device=device)
                tokens.append(int(extend(model, ids, own, n)[0, -1].argmax()))
            if tokens != fast[i].tokens and fast[i].margin > 1e-4 * scale:
                raise AssertionError(f"greedy decoding: {tokens} is not {fast[i]}")
    print("greedy decoding at once is the same as token by token")


def check_steps(model: Model, encode: Encoder, filler: Filler, device: str) -> None:
    """Both optimizers lower the loss of one batch."""
    r = stable_random("steps")
    batch = [training_sample(r, filler, encode, 512) for _ in range(4)]
    ids, weights = (torch.stack([torch.from_numpy(t) for t in part]).to(device) for part in zip(*batch))
    losses, optimizers = [], make_optimizers(model)
    for _ in range(5):
        loss, _ = answer_loss(model, model, ids.long(), weights)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    check("loss after 4 steps, of that before", losses[-1] / losses[0], 0.95)


def check_random_scores() -> None:
    """Against splitmix64 in plain integers."""
    mask, got = (1 << 64) - 1, random_scores(5, 3, 2, 100, 110)
    for head in range(2):
        for t in range(100, 110):
            z = (((5 * 1000003 + 3) * 1000003 + head) * 1000003 + t + 0x9E3779B97F4A7C15) & mask
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
            if ((z ^ (z >> 31)) >> 11) / 2.0**53 != got[t - 100, head].item():
                raise AssertionError("random scores")
    print("random scores agree")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--filler", required=True)
    p.add_argument("--spaced", type=int, default=1)
    p.add_argument("--device", default="cuda")
    a = p.parse_args()
    encode = prepare(a.out, a.filler, bool(a.spaced))
    filler = split_verses(a.filler)[0]
    check_samples(encode, filler)
    check_random_scores()
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("highest")
    model = Model().to(a.device)
    check_methods(model.eval(), encode, filler, a.device)
    check_steps(model, encode, filler, a.device)
    print("smoke passed")


if __name__ == "__main__":
    main()

"""Trains the retaining heads of a trained model: which keys will the question and its answer look at?

    python3 -m training.demo_heads --out RUN --filler kjv.txt --seconds 100

The label of a document token, per KV head, is the logarithm of the largest share of attention that
any question or answer token gives it, above a floor. Locret's labels are logits before the softmax;
in a model this small most of their variance is among tokens that nothing attends to, and a head
spends itself on that. Above the floor is little but what is looked up.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import QUERY_POSITION, Case, QuestionStream, question_batches, split_verses
from .model import Layer, Model, attention, retaining
from .train import Log, load_encoder

PEAK, WARMUP_STEPS, LEAST_RATE = 2e-3, 50, 0.05
SMOOTHNESS = 0.0025
FLOOR_SHARE = 0.011
QUERY_AWARE = 0.75  # share of batches whose documents carry the query, as behind an anchor


def load_model(out: Path, device: str) -> Model:
    model = Model().to(device)
    model.load_state_dict(torch.load(out / "checkpoint.pt", map_location=device)["model"])
    heads = out / "heads.pt"
    if heads.exists():
        model.load_state_dict(torch.load(heads, map_location=device), strict=False)
    return model


def pack(cases: list[Case], aware: bool, eos: int, device: str) -> tuple[Tensor, Tensor]:
    """-> ids [B, n + tail]: document, query, answer, padding; valid [B, tail]: not padding."""
    tail = max(len(c.query) + len(c.expected) for c in cases)
    rows, valid = [], torch.zeros(len(cases), tail, dtype=torch.bool)
    for i, case in enumerate(cases):
        n, document, asked = len(case.document), case.document.tolist(), case.query + case.expected
        if aware:
            document[QUERY_POSITION:QUERY_POSITION] = case.query
        rows.append(document[:n] + asked + [eos] * (tail - len(asked)))
        valid[i, : len(asked)] = True
    return torch.tensor(rows, device=device), valid.to(device)


def labels(q: Tensor, k: Tensor, valid: Tensor, floor: float) -> Tensor:
    """q [B, t, Hq, D] of question and answer, k [B, n + t, Hkv, D] -> [B, n, Hkv], at least 0."""
    t, n = q.shape[1], k.shape[1] - q.shape[1]
    grouped = q.float().unflatten(2, (k.shape[2], -1))
    logits = torch.einsum("bthgd,bnhd->bhgtn", grouped, k.float()) / math.sqrt(q.shape[-1])
    later = torch.ones(t, n + t, dtype=torch.bool, device=q.device).triu(n + 1)
    shares = logits.masked_fill(later, -torch.inf).log_softmax(-1)[..., :n]
    best = shares.masked_fill(~valid[:, None, None, :, None], -torch.inf).amax((2, 3)).transpose(1, 2)
    return best.clamp(min=math.log(floor)) - math.log(floor)


def overlap(scores: Tensor, wanted: Tensor) -> float:
    """Share of the best tenth of `wanted` that is in the best tenth of `scores`, both [B, n, Hkv]."""
    count = scores.shape[1] // 10
    a, b = (torch.zeros_like(t).scatter_(1, t.topk(count, 1).indices, 1.0) for t in (scores, wanted))
    return ((a * b).sum() / b.sum()).item()


def layer_loss(
    layer: Layer, x: Tensor, n: int, valid: Tensor, floor: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Residual stream x [B, n + tail, d] -> (loss of this layer's heads, x after it, scores, labels)."""
    with torch.no_grad():
        flat = layer.project(x)
        q, k, v = layer.rotate(*flat, torch.arange(x.shape[1], device=x.device))
        wanted = labels(q[:, n:], k, valid, floor)
        x = layer.finish(x, attention(q, k, v))
    scores = layer.retaining_scores(*(t[:, :n] for t in flat)).float()
    loss = F.mse_loss(scores, wanted) + SMOOTHNESS * F.mse_loss(scores[:, 1:], scores[:, :-1])
    return loss, x, scores.detach(), wanted


def train_heads(
    model: Model, stream: QuestionStream, seconds: float, batch: int, workers: int, eos: int, log: Log,
    floor: float = FLOOR_SHARE,
) -> None:
    device, n = str(model.norm.weight.device), stream.length
    for name, p in model.named_parameters():
        p.requires_grad_(retaining(name))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=PEAK, betas=(0.9, 0.95), weight_decay=0.0)
    batches, step, began = question_batches(stream, batch, workers), 0, 0.0
    choose = torch.Generator().manual_seed(77)
    while not began or time.time() - began < seconds:
        aware = torch.rand(1, generator=choose).item() < QUERY_AWARE
        ids, valid = pack(next(batches), aware, eos, device)
        began = began or time.time()
        loss, shares = torch.zeros((), device=device), []
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            x = model.embed_tokens(ids)
            for layer in model.layers:
                part, x, scores, wanted = layer_loss(layer, x, n, valid, floor)
                loss = loss + part
                if step % 100 == 0:
                    shares.append(overlap(scores, wanted))
        left = 1 - (time.time() - began) / seconds
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min(1.0, (step + 1) / WARMUP_STEPS) * max(LEAST_RATE, left)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 0.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0:
            log(f"heads step {step} loss {loss.item():.4f} overlap of the best tenth by layer "
                + " ".join(f"{s:.2f}" for s in shares) + f" at {time.time() - began:.0f} s")
        step += 1
    log(f"heads done: {step} steps")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--filler", required=True)
    p.add_argument("--seconds", type=float, default=100.0)
    p.add_argument("--floor", type=float, default=FLOOR_SHARE, help="least share that counts")
    p.add_argument("--length", type=int, default=4096)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--workers", type=int, default=14)
    p.add_argument("--device", default="cuda")
    a = p.parse_args()
    encode, model = load_encoder(a.out), load_model(a.out, a.device)
    stream = QuestionStream(split_verses(a.filler)[0], encode, a.length, "heads")
    train_heads(model, stream, a.seconds, a.batch, a.workers, encode.eos, Log(a.out), a.floor)
    heads = {n: t for n, t in model.state_dict().items() if retaining(n)}
    torch.save(heads, a.out / "heads.pt")


if __name__ == "__main__":
    main()

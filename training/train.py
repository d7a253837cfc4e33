"""Trains the demo model in stages of growing context. One process, one GPU.

    python3 -m training.train --out RUN --filler kjv.txt --stages \
        '[[512,256,200,0.0015],[2048,64,140,0.001],[8192,16,150,0.0008],[32768,4,150,0.0006]]'

A stage is [length, batch, seconds, learning rate]. Model, optimizers, step and the time spent are
saved every minute and after each stage; the same command goes on where a stopped run was. `--begin`
takes the weights and the tokenizer of an exported model instead of beginning from nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import TrainingStream, split_verses, training_batches
from .model import Model, load_exported, retaining
from .tokenizer import Encoder, build_tokenizer

WARMUP_STEPS = 300
DECAY_FROM = 0.6  # share of the whole time after which the learning rate falls linearly
FLOOR = 0.05
SAVE_EVERY = 60.0  # seconds
UNTIMED_STEPS = 5  # at the start of a stage: compilation
# A stage's learning rate is AdamW's; that of Muon, whose updates are scaled to AdamW's size, is higher.
MUON_RATE = 2.5


@dataclass
class Progress:
    stage: int = 0
    stage_seconds: float = 0.0  # in this stage
    done_seconds: float = 0.0  # in the stages before
    step: int = 0
    tokens: int = 0


class Log:
    """Prints lines and appends them to RUN/training.log."""

    def __init__(self, out: Path) -> None:
        self.file = open(out / "training.log", "a")

    def __call__(self, *parts: object) -> None:
        print(*parts, flush=True)
        print(*parts, file=self.file, flush=True)


def prepare(out: Path, filler_path: str, spaced: bool, begin: Path | None = None) -> Encoder:
    """Create the run's folder, tokenizer and settings; a run keeps the settings it began with."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "tokenizer.json").exists() and begin is not None:
        shutil.copy(begin / "tokenizer.json", out)
    if not (out / "tokenizer.json").exists():
        build_tokenizer(split_verses(filler_path)[0], spaced).save(str(out / "tokenizer.json"))
    if not (out / "settings.json").exists():
        (out / "settings.json").write_text(json.dumps({"spaced": spaced}))
    return load_encoder(out)


def load_encoder(out: Path) -> Encoder:
    spaced = json.loads((out / "settings.json").read_text())["spaced"]
    return Encoder(out / "tokenizer.json", spaced)


def make_optimizers(model: Model) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for norms and the embedding; retaining heads come later.

    Muon: Jordan et al., 2024; scaled as by Liu et al. (Muon is Scalable for LLM Training, 2025).
    """
    trained = [(n, p) for n, p in model.named_parameters() if not retaining(n)]
    matrices = [p for n, p in trained if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in trained if p.dim() == 1 or "embed" in n]
    return [torch.optim.Muon(matrices, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0,
                              fused=torch.cuda.is_available())]


def learning_rate(peak: float, step: int, share: float) -> float:
    """Warm-up over the first steps, then flat, then linear decay; share of all the time, 0..1."""
    decay = 1.0 if share < DECAY_FROM else max(FLOOR, (1 - share) / (1 - DECAY_FROM))
    return peak * min(1.0, (step + 1) / WARMUP_STEPS) * decay


def answer_loss(
    model: Model, forward: Model, ids: Tensor, weights: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """ids, weights [B, length] -> (weighted next-token loss, measures of this batch)."""
    with torch.autocast(ids.device.type, torch.bfloat16):
        hidden = forward(ids[:, :-1])
        counted = weights[:, 1:] > 0
        logits = model.logits(hidden[counted]).float()
    target, weight = ids[:, 1:][counted], weights[:, 1:][counted]
    each = F.cross_entropy(logits, target, reduction="none")
    loss, answers = (each * weight).sum() / weight.sum(), weight == 1
    right = (logits.detach().argmax(-1) == target)[answers].float().mean()
    return loss, {"loss": loss.detach(), "answer_loss": each.detach()[answers].mean(),
                  "answer_accuracy": right, "text_loss": each.detach()[~answers].mean()}


def save(
    out: Path, model: Model, optimizers: list[torch.optim.Optimizer], progress: Progress,
) -> None:
    """Replace the checkpoint in one step, so that a kill never leaves half of one."""
    state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers],
             "progress": asdict(progress)}
    torch.save(state, out / "checkpoint.tmp")
    os.replace(out / "checkpoint.tmp", out / "checkpoint.pt")


def train(
    out: Path, filler_path: str, encode: Encoder, stages: list[list[float]], workers: int,
    device: str, log: Log, begin: Path | None = None, extend: float = 0.0, until: float = 0.93,
    compiled: bool = True,
) -> Model:
    """`extend`: most seconds added to the first stage while its answer accuracy is below `until`."""
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    model = Model().to(device)
    optimizers, progress = make_optimizers(model), Progress()
    if (out / "checkpoint.pt").exists():
        state = torch.load(out / "checkpoint.pt", map_location=device)
        model.load_state_dict(state["model"])
        for optimizer, its in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(its)
        progress = Progress(**state["progress"])
        log("resumed", progress)
    elif begin is not None:
        load_exported(model, begin)
    filler, _ = split_verses(filler_path)
    trained = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    total = sum(stage[2] for stage in stages)
    log(f"parameters {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M, stages {stages}")
    began, saved = time.time(), time.time()

    while progress.stage < len(stages):
        length, batch, seconds, peak = stages[progress.stage]
        length, batch = int(length), int(batch)
        torch._dynamo.reset()
        forward = torch.compile(model, dynamic=False) if compiled else model
        stream = TrainingStream(filler, encode, length, f"train/{progress.step}")
        batches = training_batches(stream, batch, workers)
        before, count, clock, smooth = progress.stage_seconds, 0, 0.0, 0.0
        log(f"stage {progress.stage} length {length} batch {batch} seconds {seconds} at "
            f"{time.time() - began:.0f} s")
        while True:
            ids, weights = (t.to(device, non_blocking=True) for t in next(batches))
            share = min(1.0, (progress.done_seconds + min(progress.stage_seconds, seconds)) / total)
            rate = learning_rate(peak, progress.step, share)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * (MUON_RATE if isinstance(optimizer, torch.optim.Muon) else 1)
            loss, measures = answer_loss(model, forward, ids.long(), weights)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            progress.step, count = progress.step + 1, count + 1
            progress.tokens += ids.numel()
            if count == UNTIMED_STEPS:
                if device == "cuda":
                    torch.cuda.synchronize()
                clock = time.time()
            if clock:
                progress.stage_seconds = before + time.time() - clock
            if count % (100 if length <= 8000 else 25) == 0:
                now = {name: value.item() for name, value in measures.items()}
                smooth += (now["answer_accuracy"] - smooth) * (0.3 if smooth else 1.0)
                speed = (count - UNTIMED_STEPS) * length * batch / max(1e-9, time.time() - clock) / 1e6
                log(f"length {length} step {progress.step} " +
                    " ".join(f"{k} {v:.4f}" for k, v in now.items()) +
                    f" norm {norm.item():.2f} M tokens/s {speed:.2f} at {time.time() - began:.0f} s")
                if progress.stage > 0 and not now["loss"] < 20:
                    raise FloatingPointError("the loss is not finite")
            if time.time() - saved > SAVE_EVERY:
                save(out, model, optimizers, progress)
                saved = time.time()
            more = extend if progress.stage == 0 and smooth < until else 0.0
            if progress.stage_seconds >= seconds + more:
                break
        log(f"stage {progress.stage} done: {count} steps, {progress.stage_seconds:.0f} s")
        progress.done_seconds += seconds
        progress.stage, progress.stage_seconds = progress.stage + 1, 0.0
        save(out, model, optimizers, progress)
        del batches
    log(f"trained: {progress.step} steps, {progress.tokens / 1e6:.0f} M tokens")
    return model


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--filler", required=True)
    p.add_argument("--stages", type=json.loads, required=True)
    p.add_argument("--spaced", type=int, default=1, help="1: a space before answers that are words")
    p.add_argument("--begin", type=Path, help="folder of an exported model")
    p.add_argument("--extend", type=float, default=0.0)
    p.add_argument("--workers", type=int, default=14)
    p.add_argument("--device", default="cuda")
    a = p.parse_args()
    encode = prepare(a.out, a.filler, bool(a.spaced), a.begin)
    train(a.out, a.filler, encode, a.stages, a.workers, a.device, Log(a.out), a.begin, a.extend)


if __name__ == "__main__":
    main()

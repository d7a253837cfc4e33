"""A training run: one sample a step, kept so that it goes on where it was stopped."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from .layers import Heads, Seen, labels, standardised, watch
from .recall import recall
from .samples import Sample

PEAK, BETAS, CLIP, SMOOTHNESS = 5e-4, (0.9, 0.95), 0.5, 0.0025
WARMUP = 2 / 3  # of the steps; the rate falls to 0 in the others


@dataclass
class Options:
    steps: int
    keep_every: int
    standardised: bool
    query_first: bool
    ranks: int
    passing: int  # 0: an eighth of a block


def rate(step: int, steps: int) -> float:
    warm = max(1, round(steps * WARMUP))
    return PEAK * ((step + 1) / warm if step < warm else (steps - step) / (steps - warm))


class Reader:
    """Runs samples through the model, layer by layer, with the heads' scores and their labels."""

    def __init__(self, model, heads: Heads, options: Options) -> None:
        self.model, self.heads, self.options = model, heads, options
        self.sink = lambda layer, scores, wanted: None
        self.shown = range(0)  # positions of the document
        self.hooks = watch(model, self.visit)

    def visit(self, seen: Seen) -> None:
        first, last = self.shown.start, self.shown.stop
        with torch.no_grad():
            wanted = labels(seen.q[:, -self.answer:], seen.k[:, first:last])
            if self.options.standardised:
                wanted = standardised(wanted)
        with torch.autocast(seen.flat.device.type, torch.bfloat16, enabled=seen.flat.dtype == torch.bfloat16):
            scores = self.heads.scores(seen.layer, seen.flat[first:last])
        self.sink(seen.layer, scores, wanted)

    @torch.no_grad()
    def read(self, sample: Sample, sink) -> None:
        """The question stands in front as well, as in an anchor, unless the options say otherwise."""
        front = sample.query if self.options.query_first else []
        ids = front + sample.document + sample.query + sample.answer
        self.sink, self.shown, self.answer = sink, range(len(front), len(front) + len(sample.document)), len(sample.answer)
        self.model(torch.tensor([ids], device=self.model.device), use_cache=False)


def part(scores: Tensor, wanted: Tensor, layers: int) -> Tensor:
    """A layer's part of the loss: SmoothL1 is a mean over layers, the smoothness a sum."""
    near = nn.functional.smooth_l1_loss(scores, wanted) / layers
    return near + SMOOTHNESS * nn.functional.mse_loss(scores[1:], scores[:-1])


def measure(reader: Reader, samples: list[Sample]) -> dict:
    """Recall of the top l_p by layer, over samples that training does not see."""
    options, layers = reader.options, len(reader.heads.fc1)
    shares: list[list[float]] = [[] for _ in range(layers)]
    chances: list[float] = []

    def sink(layer: int, scores: Tensor, wanted: Tensor) -> None:
        passing = options.passing or max(1, len(wanted) // options.ranks // 8)
        share, chance = recall(scores.detach(), wanted, options.ranks, passing)
        shares[layer].append(share)
        chances.append(chance)

    for sample in samples:
        reader.read(sample, sink)
    by_layer = [sum(layer) / len(layer) for layer in shares]
    return {"recall": sum(by_layer) / layers, "by_layer": [round(x, 4) for x in by_layer],
            "chance": sum(chances) / len(chances), "samples": len(samples)}


def train(model, heads: Heads, samples: list[Sample], held_out: list[Sample], options: Options, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    state, log = out / "state.pt", open(out / "training.jsonl", "a")
    optimizer = torch.optim.AdamW(heads.parameters(), lr=PEAK, betas=BETAS)
    step = 0
    if state.exists():
        kept = torch.load(state, map_location=model.device, weights_only=True)
        if kept["steps"] != options.steps:
            raise SystemExit(f"{state} is of a run of {kept['steps']} steps; give --steps {kept['steps']}, or another --out")
        heads.load_state_dict(kept["heads"])
        optimizer.load_state_dict(kept["optimizer"])
        step = kept["step"]
        print(f"goes on at step {step} of {options.steps}", flush=True)
    reader, layers = Reader(model, heads, options), len(heads.fc1)

    def say(**values) -> None:
        print(" ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()), flush=True)
        log.write(json.dumps(values) + "\n")
        log.flush()

    def keep() -> None:
        whole = {"steps": options.steps, "step": step, "heads": heads.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(whole, f"{state}.partial")
        os.replace(f"{state}.partial", state)

    began, first = time.time(), step
    while step < options.steps:
        for group in optimizer.param_groups:
            group["lr"] = rate(step, options.steps)
        total = torch.zeros((), device=model.device)

        def sink(_layer: int, scores: Tensor, wanted: Tensor) -> None:
            loss = part(scores, wanted, layers)
            loss.backward()  # nothing flows back into the model, so a layer's activations can go at once
            total.add_(loss.detach())

        sample = samples[step % len(samples)]
        reader.read(sample, sink)
        if not torch.isfinite(total):
            raise SystemExit(f"the loss is {total.item()} at step {step} ({sample.name}); the run is kept up to its last save")
        nn.utils.clip_grad_value_(heads.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 20 == 0 or step == options.steps:
            say(step=step, of=options.steps, loss=total.item(), seconds_a_step=(time.time() - began) / (step - first))
        if step % options.keep_every == 0 or step == options.steps:
            keep()
            say(step=step, **measure(reader, held_out))
    save_file(heads.tensors(), out / "retaining_heads.safetensors", metadata={"format": "pt"})
    memory = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else float("nan")
    say(done=str(out / "retaining_heads.safetensors"), peak_gpu_gb=memory)

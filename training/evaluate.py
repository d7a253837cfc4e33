"""Measures an exported model: the same held-out documents through every method, exact match.

    python3 -m training.evaluate --model models/demo --filler kjv.txt --to RUN/results

writes eval.json (per cell the expected and, per method, which documents were right) and
confirm.jsonl.gz (documents with PyTorch's answers, for other engines to repeat).
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path

import torch

from . import confirm, corpus
from .data import Case, single_question, split_verses, stable_random
from .model import Model, load_exported
from .prefill import Decoded, Method, greedy, prefill
from .tokenizer import Encoder

# task -> (kind of facts or None for all, how many, the task asked about)
TASKS = {
    "passkey": (corpus.passkey, 1, "passkey"),
    "niah_single": (corpus.magic_numbers, 1, "niah"),
    "niah_multikey": (corpus.magic_numbers, 24, "niah"),
    "multivalue": (corpus.magic_numbers, 12, "multivalue"),
    "vt": (corpus.variables, 4, "vt"),
    "facts": (None, 24, "fact"),
    "twohop": (corpus.workplace, 8, "twohop"),
}
CONFIRM_TASKS = ("passkey", "niah_single", "niah_multikey", "multivalue")
RANKS, MAX_NEW, SEED = 8, 48, 5


def methods(n: int) -> dict[str, Method]:
    """What is compared at n tokens. Star carries no query in its anchor; apb8-nopass is Star with APB's."""
    block = n // RANKS
    small, passed = block // 4, block // 8
    return {
        "full": Method("full"),
        "star8": Method("star", RANKS, block),
        "star8-small": Method("star", RANKS, small),
        "apb8-nopass": Method("apb", RANKS, small, 0),
        "apb8": Method("apb", RANKS, small, passed),
        "apb8-random": Method("apb", RANKS, small, passed, "random", SEED),
    }


def make_case(task: str, n: int, index: int) -> Case:
    """Document `index` of a cell: the same for every method, run and process."""
    only, n_facts, kind = TASKS[task]
    r = stable_random("evaluation", SEED, task, n, index)
    return single_question(r, _filler, _encode, n, n_facts, only, kind)


def start_worker(filler: corpus.Filler, encode: Encoder) -> None:
    global _filler, _encode
    _filler, _encode = filler, encode


def answer(
    model: Model, cases: list[Case], method: Method, eos: int, exact: bool,
) -> list[Decoded]:
    """Greedy answers, in float32 if `exact`, else with bfloat16 matrix products."""
    device = model.norm.weight.device
    n = len(cases[0].document)
    size = max(4, min(64, 262144 // n))
    out: list[Decoded] = []
    for at in range(0, len(cases), size):
        part = cases[at : at + size]
        documents = torch.stack([torch.from_numpy(c.document).long() for c in part]).to(device)
        queries = [c.query for c in part]
        with nullcontext() if exact else torch.autocast(device.type, torch.bfloat16):
            cache = prefill(model, documents, queries, method)
            out += greedy(model, cache, queries, [c.expected for c in part], n, MAX_NEW, eos)
    return out


class Evaluation:
    """Results by cell, written after every part so that a time limit loses nothing."""

    def __init__(self, model: Model, eos: int, to: Path, deadline: float) -> None:
        self.model, self.eos, self.to, self.deadline = model, eos, to, deadline
        self.cells: dict[str, dict] = {}
        to.mkdir(parents=True, exist_ok=True)

    def late(self) -> bool:
        return time.time() > self.deadline

    def add(self, task: str, n: int, cases: list[Case]) -> None:
        """Run more documents of a cell through every method."""
        cell = self.cells.setdefault(f"{task}/{n}", {"task": task, "tokens": n, "right": {}})
        line = f"{n} {task}:"
        for name, method in methods(n).items():
            got = answer(self.model, cases, method, self.eos, exact=False)
            bits = "".join("01"[d.tokens == c.expected] for c, d in zip(cases, got))
            bits = cell["right"][name] = cell["right"].get(name, "") + bits
            line += f" {name} {100 * bits.count('1') / len(bits):.1f}"
        print(line, f"({len(bits)} documents)", flush=True)
        report = {"ranks": RANKS, "seed": SEED, "precision": "bfloat16 products, float32 residual",
                  "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
                  "torch": torch.__version__, "cells": list(self.cells.values())}
        (self.to / "eval.json").write_text(json.dumps(report, indent=1))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--filler", required=True)
    p.add_argument("--to", type=Path, required=True)
    p.add_argument("--documents", type=int, default=64)
    p.add_argument("--lengths", type=json.loads, default=[2048, 8192, 32768])
    p.add_argument("--extra", type=json.loads, default=[["multivalue", 16384]])
    p.add_argument("--seconds", type=float, default=1e9, help="begin no further part after this time")
    p.add_argument("--workers", type=int, default=14)
    p.add_argument("--device", default="cuda")
    a = p.parse_args()
    deadline = time.time() + a.seconds
    settings = json.loads((a.model / "tokenizer_config.json").read_text())["prompt_format"]
    encode = Encoder(a.model / "tokenizer.json", settings["answers_begin_with_space"] == "words")
    filler = split_verses(a.filler)[1]
    half = a.documents // 2
    # (task, tokens, first, last): what matters most comes first, the second half at 32K last
    parts = [(t, n, 0, half if n > 16384 else a.documents) for n in a.lengths for t in TASKS]
    later = [(t, n, 0, a.documents) for t, n in a.extra]
    later += [(t, n, half, a.documents) for n in a.lengths if n > 16384 for t in TASKS]
    with ProcessPoolExecutor(a.workers, get_context("fork"), start_worker, (filler, encode)) as pool:
        made: dict[tuple, list[Future]] = {
            part: [pool.submit(make_case, *part[:2], i) for i in range(*part[2:])]
            for part in parts + later}
        torch.backends.cuda.enable_math_sdp(not torch.cuda.is_available())  # never fall back to it
        torch.set_float32_matmul_precision("highest")
        model = load_exported(Model().to(a.device), a.model).eval()
        evaluation = Evaluation(model, encode.eos, a.to, deadline)

        def run(some: list[tuple[str, int, int, int]]) -> dict[tuple[str, int], list[Case]]:
            cells = {}
            for part in some:
                if evaluation.late():
                    print("out of time before", *part, flush=True)
                    continue
                cells[part[:2]] = [f.result() for f in made[part]]
                evaluation.add(*part[:2], cells[part[:2]])
            return cells

        done = run(parts)
        write_confirm(model, encode, done, a.to)
        run(later)


def write_confirm(
    model: Model, encode: Encoder, cells: dict[tuple[str, int], list[Case]], to: Path,
) -> None:
    """Answers of full attention and APB in float32 and in bfloat16, for other engines to repeat."""
    rows = []
    for (task, n), cases in cells.items():
        if task not in CONFIRM_TASKS:
            continue
        cases = cases[: 64 if n <= 2048 else 8]
        named = {name: methods(n)[name] for name in ("full", "apb8")}
        got = {name: {exact: answer(model, cases, method, encode.eos, exact)
                      for exact in (True, False)} for name, method in named.items()}
        for i, case in enumerate(cases):
            rows.append(confirm.row(task, case, named, {
                name: (both[True][i], both[False][i]) for name, both in got.items()}))
    confirm.write(to / "confirm.jsonl.gz", rows)
    print(f"confirm: {len(rows)} documents", flush=True)


if __name__ == "__main__":
    main()

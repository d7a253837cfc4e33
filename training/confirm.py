"""The file of documents and answers with which another engine shows that it computes the same.

One JSON object a line: task, tokens_n, doc (token ids as base64 of little-endian uint16), query and
expected (ids), and per method its parameters and the greedy ids until `<|eos|>`: `predicted` in
float32, `predicted_bf16` with bfloat16 products, each with the least gap of the two best logits.
"""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

import numpy as np

from .data import Case
from .prefill import Decoded, Method


def row(
    task: str, case: Case, methods: dict[str, Method], got: dict[str, tuple[Decoded, Decoded]],
) -> dict:
    """`got`: per method the answers in float32 and in bfloat16."""
    answers = []
    for name, method in methods.items():
        exact, half = got[name]
        answers.append({
            "name": name, "method": method.kind, "ranks": method.ranks, "l_a": method.l_a,
            "l_p": method.l_p, "predicted": exact.tokens, "margin": round(exact.margin, 4),
            "predicted_bf16": half.tokens, "margin_bf16": round(half.margin, 4)})
    ids = base64.b64encode(case.document.astype("<u2").tobytes()).decode()
    return {"task": task, "tokens_n": len(case.document), "doc": ids, "query": case.query,
            "expected": case.expected, "methods": answers}


def write(path: Path, rows: list[dict]) -> None:
    with gzip.GzipFile(path, "wb", 9, mtime=0) as file:
        for each in rows:
            file.write((json.dumps(each, separators=(",", ":")) + "\n").encode())


def read(path: Path) -> list[dict]:
    """-> the rows, `doc` as an array of ids."""
    with gzip.open(path, "rt") as file:
        rows = [json.loads(line) for line in file]
    for each in rows:
        each["doc"] = np.frombuffer(base64.b64decode(each["doc"]), "<u2").astype(np.int32)
    return rows

"""Tables of an evaluation as Markdown: exact match in percent with 95% Wilson intervals.

    python3 -m training.report training/results/run2.json
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path


def wilson(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a share, in percent."""
    p, square = right / total, z * z
    middle = (p + square / (2 * total)) / (1 + square / total)
    half = z / (1 + square / total) * math.sqrt(p * (1 - p) / total + square / (4 * total * total))
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def mcnemar(a: str, b: str) -> tuple[int, int, float]:
    """Paired bits -> (only a right, only b right, exact two-sided p)."""
    only_a = sum(x > y for x, y in zip(a, b))
    only_b = sum(x < y for x, y in zip(a, b))
    n = only_a + only_b
    tail = sum(math.comb(n, i) for i in range(min(only_a, only_b) + 1)) / 2**n
    return only_a, only_b, min(1.0, 2 * tail)


def cell_table(report: dict) -> str:
    names = list(report["cells"][0]["right"])
    lines = ["| tokens | task | n | " + " | ".join(names) + " |", "|---" * (len(names) + 3) + "|"]
    for cell in sorted(report["cells"], key=lambda c: c["tokens"]):
        total, row = len(cell["right"]["full"]), []
        for name in names:
            right = cell["right"][name].count("1")
            low, high = wilson(right, total)
            row.append(f"{100 * right / total:.1f} [{low:.0f}, {high:.0f}]")
        lines.append(f"| {cell['tokens']} | {cell['task']} | {total} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def paired_table(report: dict, method: str = "apb8", task: str = "multivalue") -> str:
    """The method against every other on the same documents; all lengths together come last."""
    cells = sorted((c for c in report["cells"] if c["task"] == task), key=lambda c: c["tokens"])
    names = [n for n in cells[0]["right"] if n != method]
    groups = [(str(c["tokens"]), c["right"]) for c in cells]
    groups.append(("all", {n: "".join(c["right"][n] for c in cells) for n in [method, *names]}))
    lines = [f"| tokens | n | {method} against | only {method} right | only the other right | p |",
             "|---|---|---|---|---|---|"]
    for tokens, right in groups:
        for name in names:
            mine, other, p = mcnemar(right[method], right[name])
            lines.append(f"| {tokens} | {len(right[name])} | {name} | {mine} | {other} | {p:.2g} |")
    return "\n".join(lines)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        loaded = json.loads(Path(path).read_text())
        print(f"## {path}\n\n{loaded['device']}, PyTorch {loaded['torch']}, {loaded['precision']}\n")
        print(cell_table(loaded), "\n\n" + paired_table(loaded) + "\n")

#!/usr/bin/env python3
"""The page and the plot of virtual ranks: a large cohort's slowest rank, simulated on one GPU.

  build/native/bench-cuda virtual 131072 8 >> docs/benchmarks/virtual-ranks.jsonl   # a length per command
  build/native/bench-cuda collectives 2 > docs/benchmarks/collectives.jsonl         # on two GPUs
  python3 bench/gpu/virtual_ranks.py --on "NVIDIA H100 80GB HBM3, 2026-11-25"

Whole runs, which the simulated are checked against, are the lines of methods.py. Of a cell run twice, the later line counts.
"""
import argparse
import json
import math
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
RANKS = 8
METHODS = ["ring", "ring zigzag", "ulysses", "star", "apb", "apb uneven"]
LAYERS = 32
ROW_BYTES = 2 * 8 * 128 * 2  # keys and values of a layer and row: Llama-3.1-8B's 8 heads of 128, bfloat16
WEIGHT_BYTES = 2 * 8.03e9
COLOURS = {"full": "#222", "ring": "#c1272d", "ring zigzag": "#e08214", "ulysses": "#8a6fb0", "star": "#2a8f5b", "apb": "#7fb2e5", "apb uneven": "#1f5fa8"}


def lines(path):
    return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]


def cohorts(runs):
    """By (tokens, ranks), each method's line. `full` is the one run just before the cohort, its line stands there: on
    another card, or a warmer one, it takes another time."""
    full, found = {}, {}
    for run in runs:
        if run["method"] == "full":
            full[run["tokens"]] = run
        else:
            found.setdefault((run["tokens"], run["ranks"]), {"full": full.get(run["tokens"])})[run["method"]] = run
    for (tokens, ranks), by in found.items():
        lacks = [m for m in ("full", "apb", "apb uneven") if not by.get(m)]
        if lacks:
            sys.exit(f"no line of {', '.join(lacks)} for {tokens} tokens on {ranks} ranks: bench-cuda virtual {tokens} {ranks} without ONLY makes all")
    return found


def all_gather_of(measured):
    """Time of an all-gather by the bytes that a rank receives: the line of least squares through those measured, as
    (seconds of none, seconds of a byte)."""
    points = [((m["ranks"] - 1) * m["bytes"], m["seconds"]) for m in measured if m["collective"] == "all_gather"]
    return statistics.linear_regression(*zip(*points))[::-1]


def gathers(run, all_gather):
    """Modelled seconds of a prefill's all-gathers of passing blocks, one per layer, none of them hidden."""
    start, byte = all_gather
    return LAYERS * (start + byte * (run["ranks"] - 1) * run["passing"] * ROW_BYTES) if run["passing"] else 0.0


def digits(seconds):
    return f"{seconds:#.3g}" if seconds < 100 else f"{seconds:.0f}"


def cell(run, card_bytes):
    if run is None:
        return "not run"
    seconds = digits(max(run["seconds"]))
    return f"OOM ({seconds})" if max(run["bytes"]) + WEIGHT_BYTES > card_bytes else seconds


def ratio(slower, faster, all_gather):
    if slower is None:
        return ""
    times = [max(run["seconds"]) + gathers(run, all_gather) for run in (slower, faster)]
    return f"{times[0] / times[1]:.2f}x"


def length(tokens):
    return f"{tokens // 1024}K"


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + ["| " + " | ".join(row) + " |" for row in rows]


def methods_table(found, all_gather, card_bytes):
    rows = []
    for (tokens, ranks), by in sorted(found.items()):
        if ranks != RANKS:
            continue
        uneven = by["apb uneven"]
        extra = gathers(uneven, all_gather)
        rows.append([length(tokens), f"{uneven['anchor']} / {uneven['passing']}"] + [cell(by.get(m), card_bytes) for m in ["full", *METHODS]] + [f"{extra * 1e3:.1f}"]
                    + [ratio(by.get(m), uneven, all_gather) for m in ("full", "ring", "ring zigzag", "ulysses", "star", "apb")])
    return table(["tokens", "l_a / l_p", "full, one GPU", *METHODS, "all-gather, ms, modelled"]
                 + [f"{m} / uneven" for m in ("full", "ring", "zigzag", "ulysses", "star", "even")], rows)


def blocks_table(found):
    rows = []
    for (tokens, ranks), by in sorted(found.items()):
        for method in ("apb", "apb uneven") if ranks == RANKS else ():
            run = by[method]
            each = run["blocks"] or [tokens // ranks] * ranks
            rows.append([length(tokens), method] + [f"{digits(s)} ({b})" for s, b in zip(run["seconds"], each)])
    return table(["tokens", "method"] + [f"rank {r}" for r in range(RANKS)], rows)


def checks_table(runs, whole, all_gather):
    """Simulated beside whole runs: every pair of one method, length and number of ranks that both files have."""
    simulated = {(r["tokens"], r["ranks"], r["method"]): r for r in runs}
    real = {(r["tokens"], r["ranks"], r["method"]): r for r in whole if "seconds" in r}
    rows = []
    for key in (key for key in real if key in simulated):
        extra, median = gathers(simulated[key], all_gather), statistics.median(real[key]["seconds"])
        seconds = max(simulated[key]["seconds"])
        rows.append([length(key[0]), key[2], str(key[1]), digits(seconds), f"{extra * 1e3:.1f}" if extra else "", f"{median:.3f}", f"{(seconds + extra) / median:.2f}"])
    return table(["tokens", "method", "GPUs", "simulated", "all-gather, ms, modelled", "whole run", "simulated / whole"], rows)


def page(runs, collectives, whole, on, card_bytes):
    found, all_gather = cohorts(runs), all_gather_of(collectives)
    start, byte = all_gather
    return "\n".join([
        "# Eight ranks, simulated on one GPU", "",
        "Made by `bench/gpu/virtual_ranks.py` from `virtual-ranks.jsonl`, `collectives.jsonl` and `methods.jsonl`. **Simulated**: a",
        "virtual rank is one rank's computation run alone on a GPU, with the keys and values that it would have received: all ranks",
        "run in step once, with three layers, and what each receives is kept. Llama-3.1-8B's shapes, random weights; seconds are of",
        f"the slowest rank, from medians of five runs of one and of three layers, scaled to {LAYERS}; {on}.",
        "With APB every rank is timed, with star, ring and ulysses the last, which has at least as much to do as any other. A row's",
        "`full` is the one that was run just before it.", "",
        "![Seconds of a prefill by tokens](virtual-ranks.svg)", "",
        *methods_table(found, all_gather, card_bytes), "",
        "Seconds of methods are without communication. The all-gather of the passing blocks is modelled from the collectives measured",
        f"between two GPUs: {start * 1e3:.2f} ms and {1 / byte / 1e9:.0f} GB/s for what a rank receives, once per layer, as if nothing hid it. The ratios add it to",
        "APB's times, and nothing to the others'. Nothing was measured between eight GPUs.", "",
        f"OOM: what the prefill takes beside {WEIGHT_BYTES / 1e9:.0f} GB of weights exceeds the card's {card_bytes / 1e9:.1f} GB; the time is that of the few layers, scaled. The",
        "authors of APB report 9.2x over full at 128K, and 4.2x and 1.6x over ring and Star Attention, on other cards.", "",
        "## Ranks of APB", "", "Seconds of each rank, and (tokens of its block). Uneven blocks are balanced from rates measured in the same command.", "",
        *blocks_table(found), "",
        "## Against whole runs", "", "Whole runs of all layers, a rank per GPU, joined by NCCL ([methods](methods.md)); medians. `full`", "is the one run last.", "",
        *checks_table(runs, whole, all_gather), ""])


def plot(runs, on, card_bytes):
    """Lines of seconds by tokens, both by powers."""
    found = {key[0]: by for key, by in sorted(cohorts(runs).items()) if key[1] == RANKS}
    series = {m: [(t, max(by[m]["seconds"])) for t, by in found.items() if by.get(m)] for m in ["full", *METHODS]}
    values = [s for points in series.values() for _, s in points]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    first, last = math.log2(min(found)), math.log2(max(found))
    left, top, wide, tall = 60, 50, 480, 360

    def x(tokens):
        return left + (math.log2(tokens) - first) / (last - first) * wide

    def y(seconds):
        return top + (high - math.log10(seconds)) / (high - low) * tall

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + wide + 130}" height="{top + tall + 50}" font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>',
             f'<text x="{left}" y="20">Seconds of a prefill by tokens, {RANKS} ranks, simulated on one GPU; full on one</text>',
             f'<text x="{left}" y="36" fill="#666">{on}; without communication</text>']
    for power in range(low, high + 1):
        at = y(10.0 ** power)
        parts.append(f'<line x1="{left}" x2="{left + wide}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>'
                     f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{10.0 ** power:g} s</text>')
    parts += [f'<text x="{x(t):.1f}" y="{top + tall + 20}" text-anchor="middle">{length(t)}</text>' for t in found]
    below = top
    for method, points in sorted(series.items(), key=lambda one: -one[1][-1][1] if one[1] else 0):
        if not points:
            continue
        colour = COLOURS[method]
        path = " ".join(f"{x(t):.1f},{y(s):.1f}" for t, s in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(t):.1f}" cy="{y(s):.1f}" r="3" fill="{colour}"/>' for t, s in points]
        below = max(y(points[-1][1]), below + 14)  # names do not overlap
        parts.append(f'<text x="{left + wide + 10}" y="{below + 4:.1f}" fill="{colour}">{method} {cell(found[points[-1][0]][method], card_bytes)}</text>')
    return "\n".join(parts + ["</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in", dest="folder", type=pathlib.Path, default=ROOT / "docs/benchmarks", help="of the three files of lines, and of the page")
    parser.add_argument("--on", required=True, help="the card and the date of the lines, for the page")
    parser.add_argument("--card-gb", type=float, default=85.5, help="the card's memory in 10^9 bytes; an H100 80GB has 81,559 MiB")
    options = parser.parse_args()
    runs, collectives, whole = (lines(options.folder / f"{name}.jsonl") for name in ("virtual-ranks", "collectives", "methods"))
    (options.folder / "virtual-ranks.md").write_text(page(runs, collectives, whole, options.on, options.card_gb * 1e9))
    (options.folder / "virtual-ranks.svg").write_text(plot(runs, options.on, options.card_gb * 1e9))


if __name__ == "__main__":
    main()

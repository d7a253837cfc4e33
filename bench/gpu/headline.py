#!/usr/bin/env python3
"""The table of one host's 4 or 8 GPUs: every method at 32K to 1M tokens, beside what the authors of APB report for eight
A100 and beside what virtual ranks foretold.

  python3 bench/gpu/headline.py parts --ranks 8              # the commands, each below ten minutes
  python3 bench/gpu/headline.py run 3 --ranks 8              # one of them; appends to docs/benchmarks/headline.jsonl
  python3 bench/gpu/headline.py page --ranks 8               # docs/benchmarks/headline.md

The last part is the pipeline: the demo through the queue on one cohort of all GPUs, and ranks killed in mid-prefill.
"""
import argparse
import math
import pathlib
import statistics
import subprocess
import sys

import methods
import virtual_ranks
from virtual_ranks import METHODS, digits, length, lines, table

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/benchmarks"
LENGTHS = [k * 1024 for k in (32, 64, 128, 256, 512, 1024)]
# (tokens, methods): what a command of ten minutes holds. `full` on one GPU takes about 124 s at 512K, where it is run twice;
# at 1M it takes longer than a command may.
PARTS = [(32768, None), (65536, None), (131072, None), (262144, None), (524288, "full"), (524288, ",".join(METHODS)),
         (1048576, "apb,apb uneven,star,ring zigzag"), (1048576, "ring,ulysses")]
# Llama-3.1-8B's shapes.
LAYERS, HIDDEN, MLP, HEADS, KV_HEADS, HEAD_DIM, RETAINING = 32, 4096, 14336, 32, 8, 128, 1024
# The model of the time: what products and attention of bfloat16 reach on an H100.
PRODUCTS, ATTENTION = 700e12, 600e12
ANSWER = 100  # tokens decoded, of the rate from end to end
# Tokens per second of the prefill alone, eight A100 of 80 GB (full: one), Llama-3-8B-1M; APB with l_a 4096 and l_p 2048 from
# 128K on. Slides of the authors' talk at ACL 2025.
PAPER = {
    "full": [9465, 6892, 4368, None, None, None],
    "ring": [45765, 32849, 20677, 12027, 6424, None],
    "ulysses": [65275, 50607, 33183, 19440, 10580, None],
    "star": [48906, 45765, 37407, 27223, 17230, None],
    "apb": [66874, 60124, 48545, 47404, 39155, 27888],
}


def part(number):
    if not 1 <= number <= len(PARTS) + 1:
        sys.exit(f"there are parts 1 to {len(PARTS) + 1}, not {number}")
    return PARTS[number - 1] if number <= len(PARTS) else None


def pipeline(ranks):
    """The demo, then deaths in mid-prefill, each a JSON line of its own."""
    bundle = ROOT / "build/bundle/longhaul/runtime/node"
    node = str(bundle) if bundle.exists() else "node"
    for script in (["pipeline.js"], ["death.js", "--points", "prefill", "--rounds", str(ranks)]):
        command = [node, str(ROOT / "test/gpu" / script[0]), "--comm", "nccl", "--ranks", str(ranks), *script[1:]]
        if subprocess.run(command).returncode != 0:
            sys.exit(f"{script[0]} failed")


def products(method):
    """FLOPs of one row's products, all layers."""
    projections = HIDDEN * (HEADS + 2 * KV_HEADS) * HEAD_DIM + HEADS * HEAD_DIM * HIDDEN + 3 * HIDDEN * MLP
    heads = RETAINING * ((HEADS + 2 * KV_HEADS) * HEAD_DIM + KV_HEADS) if method.startswith("apb") else 0
    return 2 * LAYERS * (projections + heads)


def modelled(run):
    """Seconds of the slowest rank by the model of the time, without communication."""
    tokens, ranks, method = run["tokens"], run["ranks"], run["method"]
    anchor, passing = run["anchor"], run["passing"]

    def seconds(rows, pairs):
        return rows * products(method) / PRODUCTS + pairs * 4 * HEADS * HEAD_DIM * LAYERS / ATTENTION

    even = tokens / ranks
    if method == "star":
        return seconds(2 * even, 2 * even * even) if ranks > 1 else seconds(tokens, tokens ** 2 / 2)
    if method == "ring":  # the last of contiguous blocks sees all others
        return seconds(even, even * (tokens - even) + even * even / 2)
    if not method.startswith("apb"):
        return seconds(even, tokens ** 2 / 2 / ranks)
    blocks = run.get("blocks") or [even] * ranks
    return max(seconds(b + (anchor if r else 0), b * b / 2 + (anchor ** 2 / 2 + b * (anchor + r * passing) if r else 0)) for r, b in enumerate(blocks))


def rate(tokens, seconds):
    return f"{tokens / seconds / 1000:.1f}"


def cells(run, paper, foretold):
    if run is None or "error" in run:
        return ["not run" if run is None else run["error"].replace("_", " "), "", paper, "", foretold, "", "", ""]
    seconds = statistics.median(run["seconds"])
    waits = max(phase["communication"] for phase in run["phases"])
    used = f"{max(run['used_bytes']) / 1e9:.1f}" if "used_bytes" in run else ""
    answered = seconds + ANSWER * min(run["decode_seconds"], run.get("decode_shared_seconds", math.inf))
    return [digits(seconds), rate(run["tokens"], seconds), paper, rate(run["tokens"] + ANSWER, answered), foretold,
            f"{modelled(run) / seconds:.2f}", f"{waits * 1e3:.1f}", used]


def page(ranks, source, folder):
    latest = {(r["tokens"], r["method"]): r for r in lines(source) if r["ranks"] in (1, ranks)}
    all_gather = virtual_ranks.all_gather_of(lines(folder / "collectives.jsonl"))
    virtual = {(r["tokens"], r["method"]): max(r["seconds"]) + virtual_ranks.gathers(r, all_gather)
               for r in lines(folder / "virtual-ranks.jsonl") if r["ranks"] == ranks}
    cards = sorted({f"{r['cards'][0]} on {r['date']}" for r in latest.values()})
    text = [
        f"# The methods on {ranks} GPUs of one host", "",
        f"Made by `bench/gpu/headline.py` from `{source.name}`: Llama-3.1-8B's shapes, random weights, NCCL, a rank per GPU; `full`",
        f"on one. {'; '.join(cards)}.", "",
        "Seconds are the median prefill of the slowest rank; tokens/s in thousands. *Paper*: what the authors of APB report, prefill",
        "alone, eight A100 of 80 GB; their l_a and l_p are 4096 and 2048 from 128K on. *Foretold*: seconds by",
        f"[virtual ranks](virtual-ranks.md) with their modelled all-gather. *Of the model*: seconds that {PRODUCTS / 1e12:.0f} TFLOP/s of products and",
        f"{ATTENTION / 1e12:.0f} of attention would take, without communication, by those measured. *Waits*: communication that is not hidden, of the",
        f"rank that waits longest, in a run apart that waits for the GPU after each phase. *End to end*: with {ANSWER} tokens decoded. *GB*:",
        "what the fullest GPU held, weights and all.",
    ]
    for at, tokens in enumerate(LENGTHS):
        found = {m: latest.get((tokens, m)) for m in ["full", *METHODS]}
        if not any(found.values()):
            continue
        rows = []
        for method, run in found.items():
            paper = PAPER.get(method, [None] * len(LENGTHS))[at] if ranks == 8 or method == "full" else None
            told = virtual.get((tokens, method))
            sizes = f"{run['anchor']} / {run['passing']}" if run and run["passing"] else ""
            rows.append([method, sizes, *cells(run, f"{paper / 1000:.1f}" if paper else "", digits(told) if told else "")])
        text += ["", f"## {length(tokens)} tokens", "",
                 *table(["method", "l_a / l_p", "prefill, s", "tokens/s", "paper, tokens/s", "end to end", "foretold, s", "of the model", "waits, ms", "GB"], rows),
                 *methods.phases([run for run in found.values() if run and run["ranks"] > 1])]
    return "\n".join(text) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["parts", "run", "page"])
    parser.add_argument("number", type=int, nargs="?", help="of the part to run")
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--lines", type=pathlib.Path, default=FOLDER / "headline.jsonl", help="where runs go and the page comes from")
    parser.add_argument("--to", type=pathlib.Path, default=FOLDER / "headline.md", help="the page")
    options = parser.parse_args()
    if options.what == "parts":
        for number in range(1, len(PARTS) + 2):
            job = part(number)
            print(f"{number}: " + (f"{length(job[0])} tokens: {job[1] or 'all methods'}" if job else "the demo through the queue, and deaths"))
    elif options.what == "run":
        if options.number is None:
            parser.error("run takes the number of a part")
        job = part(options.number)
        if job:
            methods.run(job[0], options.ranks, options.lines, job[1])
        else:
            pipeline(options.ranks)
    else:
        options.to.write_text(page(options.ranks, options.lines, FOLDER))


if __name__ == "__main__":
    main()

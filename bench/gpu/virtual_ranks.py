#!/usr/bin/env python3
"""Makes the page of virtual ranks from the lines of `bench-cuda virtual`.

  build/native/bench-cuda virtual 131072 8 >> docs/benchmarks/virtual-ranks.jsonl
  python3 bench/gpu/virtual_ranks.py --from docs/benchmarks/virtual-ranks.jsonl --collectives docs/benchmarks/collectives.jsonl \\
      --whole docs/benchmarks/methods.jsonl --to docs/benchmarks/virtual-ranks.md

Of several lines for the same method, length and ranks the last one counts. No GPU is needed.
"""
import argparse
import json
import pathlib

CARD_BYTES, WEIGHT_BYTES = 80e9, 16.5e9  # of an H100, and Llama-3.1-8B with heads: what is beside them is in the lines
LAYERS, ROW_BYTES = 32, 2 * 8 * 128 * 2  # keys and values of a row in a layer
METHODS = ["full", "ring", "ring zigzag", "ulysses", "star", "apb", "apb uneven"]


def lines(path):
    return [json.loads(line) for line in open(path)]


def time_of(run):
    """Seconds of the slowest rank that was timed."""
    return max(run["seconds"])


def cell(run):
    if run is None:
        return "not run"
    text = f"{time_of(run):.3g}"
    return f"OOM ({text})" if max(run["bytes"]) + WEIGHT_BYTES > CARD_BYTES else text


def ratio(found, method):
    if method not in found or "apb uneven" not in found:
        return ""
    return f"{time_of(found[method]) / time_of(found['apb uneven']):.1f}x"


def gather_seconds(collectives, ranks, passing):
    """All layers' all-gathers of passing blocks, modelled: bytes of a rank by a straight line through what two GPUs took."""
    known = sorted((c["bytes"], c["seconds"]) for c in collectives if c["collective"] == "all_gather")
    (small, start), (large, end) = known[0], known[-1]
    each = passing * ROW_BYTES
    return LAYERS * (start + (ranks - 1) * each * (end - start) / (large - small))


def page(runs, collectives, whole, ranks):
    latest = {(r["tokens"], r["ranks"], r["method"]): r for r in runs}
    lengths = sorted({tokens for tokens, count, _ in latest if count == ranks})
    text = ["# Eight ranks, simulated on one GPU" if ranks == 8 else f"# {ranks} ranks, simulated on one GPU", "",
            "Made by `bench/gpu/virtual_ranks.py` from `virtual-ranks.jsonl`. **A virtual rank is one rank's computation run alone on a GPU, its received",
            "keys and values precomputed**: all ranks run in step once, with three layers, and what each receives is kept (`build/native/bench-cuda",
            "virtual TOKENS RANKS`). Seconds are of the slowest rank, medians of five runs of one and of three layers, scaled to 32. Communication is",
            "left out of them; for APB the last column adds it as a model. Llama-3.1-8B's shapes, random weights, NVIDIA H100 80GB HBM3.", "",
            "| tokens | l_a / l_p | " + " | ".join(METHODS) + " | full / uneven | ring / uneven | zigzag / uneven | star / uneven | all-gather, modelled |",
            "|---|---|" + "---|" * (len(METHODS) + 5)]
    for tokens in lengths:
        found = {m: latest[tokens, 1 if m == "full" else ranks, m] for m in METHODS if (tokens, 1 if m == "full" else ranks, m) in latest}
        apb = found["apb"]
        ratios = [ratio(found, m) for m in ("full", "ring", "ring zigzag", "star")]
        gather = f"{gather_seconds(collectives, ranks, apb['passing']):.3f} s"
        text.append("| " + " | ".join([f"{tokens // 1024}K", f"{apb['anchor']} / {apb['passing']}", *(cell(found.get(m)) for m in METHODS), *ratios, gather]) + " |")
    text += ["", "OOM: the cell does not fit a card of 80 GB beside 16.5 GB of weights; its time is that of the few layers, scaled. The model of the",
             "all-gather is NCCL's time between two GPUs ([lines](collectives.jsonl)) by bytes received, none of it hidden; a host of eight GPUs was not",
             "to be had. The authors of APB report 9.2x over full at 128K, and 4.2x and 1.6x over ring and Star Attention, on other cards.", "",
             "## Against whole runs", "", "The same method for one and two ranks beside runs of 32 layers with communication ([methods](methods.md)); seconds.", "",
             "| tokens | method | ranks | simulated | whole |", "|---|---|---|---|---|"]
    real = {(r["tokens"], r["ranks"], r["method"]): min(r["seconds"]) for r in whole if "seconds" in r}
    for key in sorted(k for k in latest if k in real):
        text.append(f"| {key[0] // 1024}K | {key[2]} | {key[1]} | {time_of(latest[key]):.3f} | {real[key]:.3f} |")
    return "\n".join(text) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", required=True)
    parser.add_argument("--collectives", required=True)
    parser.add_argument("--whole", required=True)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--to", required=True)
    options = parser.parse_args()
    text = page(lines(options.source), lines(options.collectives), lines(options.whole), options.ranks)
    pathlib.Path(options.to).write_text(text)


if __name__ == "__main__":
    main()

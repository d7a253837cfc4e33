#!/usr/bin/env python3
"""The methods side by side on several GPUs: runs one length, or makes the page of all that were run.

  python3 bench/gpu/methods.py run --tokens 131072 --ranks 2 --to docs/benchmarks/methods.jsonl
  python3 bench/gpu/methods.py page --from docs/benchmarks/methods.jsonl --to docs/benchmarks/methods.md

A run appends one JSON line per method, with the cards, the driver and the date; each length is a command of its own.
"""
import argparse
import datetime
import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def cards():
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip().splitlines()


def run(tokens, ranks, to, only):
    seen = cards()
    if len(seen) < ranks:
        sys.exit(f"{ranks} ranks need {ranks} GPUs, there are {len(seen)}")
    facts = {"cards": seen[:ranks], "date": datetime.date.today().isoformat()}
    command = [str(ROOT / "build/native/bench-cuda"), "methods", str(tokens), str(ranks)] + ([only] if only else [])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child, open(to, "a") as out:
        for line in child.stdout:
            out.write(json.dumps({**json.loads(line), **facts}) + "\n")
            out.flush()
            print(line, end="", flush=True)
    if child.returncode != 0:
        sys.exit(f"bench-cuda ended with code {child.returncode}; the lines before it are kept")


def row(run, full):
    name = f"| {run['method']} | {run['ranks']} | {run['anchor'] or '-'} / {run['passing'] or '-'} "
    if "error" in run:
        return name + f"| {run['error'].replace('_', ' ')} | | | | | |"
    seconds, times = min(run["seconds"]), run["phases"]
    ratio = f"{full / seconds:.2f}x" if full else ""
    spread = f"{seconds:.3f} ({statistics.median(run['seconds']):.3f})"
    waits = max(phase["communication"] for phase in times)
    attention = max(phase["attention"] for phase in times)
    shared = f"{run['decode_shared_seconds'] * 1e3:.2f}" if "decode_shared_seconds" in run else ""
    return name + f"| {spread} | {ratio} | {waits * 1e3:.1f} | {attention:.3f} | {run['decode_seconds'] * 1e3:.2f} | {shared} |"


def phases(runs):
    """Milliseconds of each phase on each rank, for APB with even and with uneven blocks."""
    found = [r for r in runs if r["method"].startswith("apb") and "phases" in r]
    if not found:
        return []
    names = list(found[0]["phases"][0])
    text = ["", "By phase, ms:", "", "| blocks | rank | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for run in found:
        for rank, times in enumerate(run["phases"]):
            block = run["blocks"][rank] if run["blocks"] else run["tokens"] // run["ranks"]
            text.append(f"| {block} | {rank} | " + " | ".join(f"{times[name] * 1e3:.1f}" for name in names) + " |")
    return text


def page(source, to):
    runs = [json.loads(line) for line in open(source)]
    latest = {(r["tokens"], r["method"], r["ranks"], tuple(r["cards"])): r for r in runs}
    text = [
        "# Methods on several GPUs",
        "",
        "Made by `bench/gpu/methods.py` from `" + pathlib.Path(source).name + "`: Llama-3.1-8B's shapes, random weights, NCCL, a",
        "rank per GPU. Seconds are of the slowest rank, best and (median) of three. Communication is what is not hidden behind",
        "other work, of the rank that waits longest; attention of ring and ulysses contains theirs. Both are of a run apart, which",
        "waits for the GPU after each phase.",
    ]
    for tokens in sorted({key[0] for key in latest}):
        found = [r for key, r in latest.items() if key[0] == tokens]
        full = next((min(r["seconds"]) for r in found if r["method"] == "full" and "seconds" in r), None)
        text += ["", f"## {tokens // 1024}K tokens", "", "; ".join(sorted({", ".join(r["cards"]) + " on " + r["date"] for r in found})), ""]
        text += ["| method | GPUs | l_a / l_p | prefill, s | to full on one | communication, ms | attention, s | a decoded token, ms | its MLP shared, ms |",
                 "|---|---|---|---|---|---|---|---|---|"]
        text += [row(r, full) for r in found] + phases(found)
    pathlib.Path(to).write_text("\n".join(text) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("--tokens", type=int, required=True)
    one.add_argument("--ranks", type=int, default=2)
    one.add_argument("--only", help='these methods, by name, with commas: "star,ring zigzag"')
    one.add_argument("--to", required=True)
    all_ = commands.add_parser("page")
    all_.add_argument("--from", dest="source", required=True)
    all_.add_argument("--to", required=True)
    options = parser.parse_args()
    if options.command == "run":
        run(options.tokens, options.ranks, options.to, options.only)
    else:
        page(options.source, options.to)


if __name__ == "__main__":
    main()

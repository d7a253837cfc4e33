"""All benchmarks of the CUDA backend, beside PyTorch on the same machine: Markdown, JSON and a plot.

  make cuda && python3 bench/gpu/run.py --out docs/benchmarks [--commit ID] [--quick]
  python3 bench/gpu/run.py --out docs/benchmarks --results docs/benchmarks/cuda.json   # writes the page again

Attention is measured by attention.py, which this runs first. --quick leaves out 128K tokens. PyTorch and transformers are needed here only.
"""
import argparse
import concurrent.futures
import datetime
import json
import mmap
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / 'build/native/bench-cuda'
PYTORCH = [sys.executable, str(ROOT / 'bench/gpu/pytorch.py')]
# Seconds by a model of the work: 700 TFLOP/s of products, 600 of attention.
MODEL = {'prefill full, 32768 tokens': 1.12, 'prefill full, 131072 tokens': 10.1}


def lines(command):
    print('+', ' '.join(map(str, command)), flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def in_turns(*commands):
    """The JSON lines of each of these programs, which do one batch of work at a time: a card's clock follows its power,
    so that what runs later is slower, whoever it is."""
    print('+', ' | '.join(' '.join(map(str, command)) for command in commands), flush=True)
    programs = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for command in commands]
    results = [[] for _ in programs]

    def until_turn(program, found):
        for line in program.stdout:
            if line == 'turn\n':
                return True
            found.append(json.loads(line))
        return False

    try:
        waiting = [until_turn(*pair) for pair in zip(programs, results)]
        while any(waiting):
            for i, program in enumerate(programs):
                if waiting[i]:
                    program.stdin.write('\n')
                    waiting[i] = until_turn(program, results[i])
        for program in programs:
            if program.wait() != 0:
                raise subprocess.CalledProcessError(program.returncode, program.args)
    finally:
        for program in programs:
            program.kill()
    return results


def disk_rate(directory, readers=8, piece=8 << 20):
    """Bytes per second of the disk itself: several readers past the page cache."""
    pieces = [(path, at) for path in sorted(pathlib.Path(directory).glob('*.safetensors'))
              for at in range(0, path.stat().st_size - piece, piece)]

    def read(job):
        file = os.open(job[0], os.O_RDONLY | os.O_DIRECT)
        try:
            return os.preadv(file, [mmap.mmap(-1, piece)], job[1])
        finally:
            os.close(file)
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(readers) as pool:
        return sum(pool.map(read, pieces)) / (time.monotonic() - start)


def collect(quick):
    ours, theirs = lines([PROGRAM, 'ops']), lines([*PYTORCH, 'ops'])
    for all_results, found in zip((ours, theirs), in_turns([PROGRAM, 'products'], [*PYTORCH, 'products'])):
        all_results += found
    for tokens in (32768,) if quick else (32768, 131072):
        ours += lines([PROGRAM, 'prefill', str(tokens), '64'])
        for kernel in ('flash', 'cudnn'):
            theirs += lines([*PYTORCH, 'prefill', str(tokens), kernel])
    with tempfile.TemporaryDirectory(dir=ROOT / 'build') as made:
        lines([*PYTORCH, 'checkpoint', made, '8'])
        subprocess.run(['sync'], check=True)
        try:
            pathlib.Path('/proc/sys/vm/drop_caches').write_text('3')
            ours += [dict(line, what='weights from disk') for line in lines([PROGRAM, 'load', made])]
            disk = disk_rate(made)
        except PermissionError:
            disk = None
            print('the page cache cannot be dropped without root: no number for weights from disk')
        ours += [dict(line, what='weights from the page cache') for line in lines([PROGRAM, 'load', made])]
    card = subprocess.run(['nvidia-smi', '--query-gpu=name,driver_version', '--format=csv,noheader'], capture_output=True,
                          text=True, check=True).stdout.strip().splitlines()[0]
    return {'card': card, 'disk': disk, 'longhaul': ours, 'pytorch': theirs}


def time_of(seconds):
    return f'{seconds:.3f} s' if seconds >= 1 else f'{seconds * 1e3:.2f} ms' if seconds >= 1e-3 else f'{seconds * 1e6:.1f} us'


def page(results):
    ceiling = next(r['bytes'] / r['seconds'] for r in results['longhaul'] if r['what'].startswith('copy'))
    out = ['# CUDA backend on one GPU', '',
           f'{results["card"]} (name, driver); commit {results["commit"]}; {results["date"]}.',
           'Command: `make cuda && python3 bench/gpu/run.py --out docs/benchmarks`. Attention by itself: [attention.md](attention.md).', '',
           f'Times are medians of at least nine batches on one warm machine. Ceiling of memory: a copy at {ceiling / 1e9:.0f} GB/s.',
           'PyTorch: torch.matmul (torch.addmm for products with a residual), taking turns with ours batch by batch; torch.topk and',
           'torch.gather; transformers with SDPA pinned to one kernel.',
           *([f'The disk that the weights came from gives {results["disk"] / 1e9:.2f} GB/s to eight readers past the page cache.'] if results['disk'] else []), '',
           '| what | time | GB/s | of the copy | TFLOP/s | PyTorch | times as fast |', '|---|---|---|---|---|---|---|']
    for r in results['longhaul']:
        rivals = [p for p in results['pytorch'] if p['what'] == r['what']]
        best = min(rivals, key=lambda p: p['seconds'], default=None)
        rate, flops = r['bytes'] / r['seconds'], r['flops'] / r['seconds']
        name = r['what'] + (f' ({r["note"]})' if r['what'].startswith('gemm') and r['note'] else f' ({r["bytes"] / 1e6:.0f} MB)' if r['what'].startswith('weights') else '')
        notes = [name, time_of(r['seconds']), f'{rate / 1e9:.{0 if rate > 2e10 else 1}f}' if rate else '',
                 f'{100 * rate / ceiling:.0f} %' if rate and flops < 5e12 else '', f'{flops / 1e12:.0f}' if flops > 5e12 else '',
                 ', '.join(time_of(p['seconds']) + (f' ({p["note"].split(", ")[1]})' if p.get('note') else '') for p in rivals),
                 f'{best["seconds"] / r["seconds"]:.2f}' if best else '']
        out.append('| ' + ' | '.join(notes) + ' |')
    out += ['', '## Against the model', '', '| prefill | model | measured | measured / model |', '|---|---|---|---|']
    for r in results['longhaul']:
        if r['what'] in MODEL:
            out.append(f'| {r["what"]} | {MODEL[r["what"]]} s | {r["seconds"]:.2f} s | {r["seconds"] / MODEL[r["what"]]:.2f} |')
    out += ['', 'The model counts 700 TFLOP/s for products and 600 for attention. Shapes are those of Llama-3.1-8B, the weights random.',
            "As in production, the last layer's attention and MLP, which feed no cache, are left out of ours; transformers computes them.",
            '', '![Times as fast as PyTorch](cuda.svg)', '']
    return '\n'.join(out)


def plot(results, attention, path):
    """Bars of times as fast as the best of PyTorch, in plain SVG."""
    bars = [('attention, ' + r['case'].split(',')[0].split(':')[0] + (', D 64' if 'D 64' in r['case'] else ''), r['speedup']) for r in attention['prefill']]
    bars += [(f'attention, {r["queries"]} against {r["keys"]} keys', r['speedup']) for r in attention['decode']]
    for r in results['longhaul']:
        rivals = [p['seconds'] for p in results['pytorch'] if p['what'] == r['what']]
        if rivals:
            bars.append((r['what'], min(rivals) / r['seconds']))
    scale, row, left = 90, 22, 290
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + 6 * scale + 60}" height="{row * len(bars) + 50}" '
             'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>',
             f'<text x="10" y="18">Times as fast as PyTorch on the same card ({results["card"].split(",")[0]}); the line is 1</text>']
    for i, (what, ratio) in enumerate(bars):
        y = 32 + i * row
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{what}</text>'
                     f'<rect x="{left}" y="{y}" width="{min(ratio, 6) * scale:.1f}" height="16" fill="#3b76af"/>'
                     f'<text x="{left + min(ratio, 6) * scale + 5:.1f}" y="{y + 13}">{ratio:.2f}</text>')
    parts.append(f'<line x1="{left + scale}" x2="{left + scale}" y1="28" y2="{32 + row * len(bars)}" stroke="#c00"/></svg>')
    path.write_text('\n'.join(parts) + '\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=pathlib.Path, default=ROOT / 'docs/benchmarks')
    parser.add_argument('--commit', default='')
    parser.add_argument('--quick', action='store_true')
    parser.add_argument('--results', type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.results:
        results = json.loads(arguments.results.read_text())
    else:
        commit = arguments.commit or subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        subprocess.run([sys.executable, ROOT / 'bench/gpu/attention.py', '--out', arguments.out, '--commit', commit], check=True)
        results = collect(arguments.quick)
        results.update(commit=commit, date=datetime.date.today().isoformat())
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / 'cuda.json').write_text(json.dumps(results, indent=1) + '\n')
    (arguments.out / 'cuda.md').write_text(page(results))
    plot(results, json.loads((arguments.out / 'attention.json').read_text()), arguments.out / 'cuda.svg')


if __name__ == '__main__':
    main()

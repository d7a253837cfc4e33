"""All benchmarks of the CUDA backend but attention's, beside PyTorch on the same machine: Markdown, JSON and a plot.

  make cuda && python3 bench/gpu/run.py --out docs/benchmarks [--commit ID] [--quick]
  python3 bench/gpu/run.py --out docs/benchmarks --results docs/benchmarks/cuda.json   # writes the page again

--quick leaves out 128K tokens. PyTorch and transformers are needed here only.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / 'build/native/bench-cuda'
PYTORCH = [sys.executable, str(ROOT / 'bench/gpu/pytorch.py')]
# Seconds by a model of the work: 700 TFLOP/s of products, 600 of attention.
MODEL = {'prefill full, 32768 tokens': 1.12, 'prefill full, 131072 tokens': 10.1}


def lines(command):
    print('+', ' '.join(map(str, command)), flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def collect(quick):
    ours = lines([PROGRAM, 'ops'])
    theirs = lines([*PYTORCH, 'ops'])
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
        except PermissionError:
            print('the page cache cannot be dropped without root: no number for weights from disk')
        ours += [dict(line, what='weights from the page cache') for line in lines([PROGRAM, 'load', made])]
    card = subprocess.run(['nvidia-smi', '--query-gpu=name,driver_version', '--format=csv,noheader'], capture_output=True,
                          text=True, check=True).stdout.strip().splitlines()[0]
    return {'card': card, 'longhaul': ours, 'pytorch': theirs}


def time_of(seconds):
    return f'{seconds:.3f} s' if seconds >= 1 else f'{seconds * 1e3:.2f} ms' if seconds >= 1e-3 else f'{seconds * 1e6:.1f} us'


def page(results):
    ceiling = next(r['bytes'] / r['seconds'] for r in results['longhaul'] if r['what'].startswith('copy'))
    out = ['# CUDA backend: every op but attention', '',
           f'{results["card"]} (name, driver); commit {results["commit"]}; {results["date"]}.',
           'Command: `make cuda && python3 bench/gpu/run.py --out docs/benchmarks`.', results.get('note', ''), '',
           f'Times are medians of at least nine batches on one warm machine. Ceiling of memory: a copy at {ceiling / 1e9:.0f} GB/s.',
           'PyTorch: torch.matmul, torch.topk and torch.gather; transformers with SDPA pinned to one kernel.', '',
           '| what | time | GB/s | of the copy | TFLOP/s | PyTorch | times as fast |', '|---|---|---|---|---|---|---|']
    for r in results['longhaul']:
        rivals = [p for p in results['pytorch'] if p['what'] == r['what']]
        best = min(rivals, key=lambda p: p['seconds'], default=None)
        rate, flops = r['bytes'] / r['seconds'], r['flops'] / r['seconds']
        name = r['what'] + (f' ({r["note"]})' if r['what'].startswith('gemm') and r['note'] else '')
        notes = [name, time_of(r['seconds']), f'{rate / 1e9:.0f}' if rate else '',
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


def plot(results, path):
    """Bars of times as fast as the best of PyTorch, in plain SVG."""
    bars = []
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
        import datetime
        results = collect(arguments.quick)
        commit = arguments.commit or subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        results.update(commit=commit, date=datetime.date.today().isoformat())
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / 'cuda.json').write_text(json.dumps(results, indent=1) + '\n')
    (arguments.out / 'cuda.md').write_text(page(results))
    plot(results, arguments.out / 'cuda.svg')


if __name__ == '__main__':
    main()

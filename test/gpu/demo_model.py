"""The demo model's answers on the GPU, in bfloat16, beside PyTorch's recorded ones in float32, on every recorded document;
on some of them the CPU engine in float32 runs as well, which measures what bfloat16 does to logits and to chosen rows.

  make cuda && python3 test/gpu/demo_model.py [--out docs/benchmarks] [--commit ID] [--lengths 2048,8192,32768]
  python3 test/gpu/demo_model.py --out docs/benchmarks --results docs/benchmarks/demo-model.json   # writes the page again

An answer that differs is a near-tie where PyTorch's least gap of two best logits is below the largest change of such a gap
that was measured where the answer did not change. Passes when no other answer differs.
"""
import argparse
import base64
import collections
import datetime
import gzip
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / 'models/demo'
COMPARED = {2048: 16, 8192: 4}  # answers of a cell that the CPU engine gives as well


def packed(line, row, answer, compare, eos):
    document = base64.b64decode(row['doc'])
    tokens = [*struct.unpack(f'<{len(document) // 2}H', document), *row['query'], *answer['predicted']]
    head = [line, compare, answer['method'] == 'apb', answer['ranks'], answer['l_a'], answer['l_p'], row['tokens_n'],
            len(row['query']), len(answer['predicted']), eos]
    return struct.pack(f'<{len(head) + len(tokens)}I', *map(int, head), *tokens)


def collect(lengths):
    rows = [json.loads(line) for line in gzip.open(ROOT / 'training/confirm/demo.jsonl.gz', 'rt')]
    eos = json.loads((MODEL / 'config.json').read_text())['eos_token_id']
    cells = collections.Counter()
    asked, out = [], bytearray()
    for line, row in enumerate(rows, 1):
        for answer in row['methods']:
            if row['tokens_n'] not in lengths:
                continue
            cell = (row['tokens_n'], row['task'], answer['name'])
            compare = cells[cell] < COMPARED.get(row['tokens_n'], 0)
            cells[cell] += 1
            out += packed(line, row, answer, compare, eos)
            asked.append({'line': line, 'cell': cell, 'margin': answer['margin'], 'pytorch': answer['predicted'],
                          'expected': row['expected'], 'pytorch_bf16': answer['predicted_bf16']})
    with tempfile.NamedTemporaryFile() as file:
        file.write(out)
        file.flush()
        program = subprocess.Popen([ROOT / 'build/native/bench-cuda', 'answers', MODEL, file.name], stdout=subprocess.PIPE, text=True)
        start = shown = time.monotonic()
        for done, (each, line) in enumerate(zip(asked, program.stdout), 1):
            each.update({key: value for key, value in json.loads(line).items() if key != 'line'})
            if time.monotonic() - shown > 10 or done == len(asked):
                shown = time.monotonic()
                print(f'{done} of {len(asked)} answers, {shown - start:.0f} s', file=sys.stderr, flush=True)
        if program.wait() != 0 or 'tokens' not in asked[-1]:
            raise SystemExit('bench-cuda answers failed; what it printed says why')
    for each in asked:  # what is kept: not the tokens, but which of them are equal
        pytorch, expected = each.pop('pytorch'), each.pop('expected')
        each['right_pytorch'], each['right'] = pytorch == expected, each['tokens'] == expected
        for ours in ('tokens', 'pytorch_bf16', 'cpu'):
            if ours in each:
                each[ours] = each[ours] == pytorch
    card = subprocess.run(['nvidia-smi', '--query-gpu=name,driver_version', '--format=csv,noheader'], capture_output=True,
                          text=True, check=True).stdout.strip().splitlines()[0]
    return {'card': card, 'answers': asked}


def verdict(answers):
    """-> the near-tie limit, the answers that differ, those of them that are no near-ties, PyTorch's count in bfloat16."""
    limit = max((a['gap_error'] for a in answers if 'gap_error' in a and a['tokens']), default=0)
    differing = [a for a in answers if not a['tokens']]
    clear = [a for a in differing if a['margin'] >= limit]
    return limit, differing, clear, sum(not a['pytorch_bf16'] for a in answers)


def page(results):
    answers = results['answers']
    limit, differing, clear, theirs = verdict(answers)
    compared = [a for a in answers if 'error' in a]
    near, right, right_pytorch = (sum(map(fact, answers)) for fact in (lambda a: a['margin'] < limit, lambda a: a['right'], lambda a: a['right_pytorch']))
    out = ['# The demo model on one GPU', '',
           f'{results["card"]} (name, driver); commit {results["commit"]}; {results["date"]}.',
           'Command: `make cuda && python3 test/gpu/demo_model.py --out docs/benchmarks`. Ranks are threads that share the GPU.', '',
           f'{len(answers) - len(differing)} of {len(answers)} answers have the tokens that PyTorch gave in float32, {right} are right (PyTorch: {right_pytorch}). PyTorch itself with bfloat16',
           f'products and a float32 residual stream has {len(answers) - theirs}; here the residual stream is bfloat16 too.',
           f'{len(compared)} answers were given by the CPU engine in float32 as well, {sum(a["cpu"] for a in compared)} of them with PyTorch\'s tokens. Beside these, bfloat16 moved a logit',
           f'by at most {max((a["error"] for a in compared), default=0):.3f} (root mean square {(sum(a["rms"] ** 2 for a in compared) / max(1, len(compared))) ** 0.5:.4f}), and the gap between the best token and one within 2 of it',
           f'by at most {limit:.3f} where the answer stayed the same. An answer whose least gap in float32 is below that is a near-tie: {near} are.',
           f'{len(differing) - len(clear)} of the {len(differing)} answers that differ are among them; of the other {len(answers) - near} answers, {len(clear)} differ.', '',
           "| tokens | task | method | answers | PyTorch's tokens | PyTorch in bfloat16 | right | right in PyTorch | largest gap error | common choices |",
           '|---|---|---|---|---|---|---|---|---|---|']
    cells = collections.defaultdict(list)
    for a in answers:
        cells[tuple(a['cell'])].append(a)
    for (tokens, task, method), group in sorted(cells.items()):
        gaps, shared = [a['gap_error'] for a in group if 'gap_error' in a], [a['overlap'] for a in group if 'overlap' in a]
        out.append(f'| {tokens} | {task} | {method} | {len(group)} | {sum(a["tokens"] for a in group)} | {sum(a["pytorch_bf16"] for a in group)} | '
                   f'{sum(a["right"] for a in group)} | {sum(a["right_pytorch"] for a in group)} | '
                   f'{f"{max(gaps):.3f}" if gaps else ""} | {f"{sum(shared) / len(shared):.4f}" if shared else ""} |')
    out += ['', 'Common choices: the mean share of rows that retaining heads choose in bfloat16 as well as in float32, over layers, ranks and heads.']
    if differing:
        out += ['', '| line of the file | cell | least gap in float32 | near-tie | PyTorch in bfloat16 |', '|---|---|---|---|---|']
        out += [f'| {a["line"]} | {" ".join(map(str, a["cell"]))} | {a["margin"]} | {"no" if a in clear else "yes"} | {"the same as in float32" if a["pytorch_bf16"] else "differs too"} |' for a in differing]
    return '\n'.join(out) + '\n'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=pathlib.Path)
    parser.add_argument('--commit', default='')
    parser.add_argument('--lengths', type=lambda text: [int(part) for part in text.split(',')], default=[2048, 8192, 32768])
    parser.add_argument('--results', type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.results:
        results = json.loads(arguments.results.read_text())
    else:
        results = collect(arguments.lengths)
        commit = arguments.commit or subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        results.update(commit=commit, date=datetime.date.today().isoformat())
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / 'demo-model.json').write_text(json.dumps(results, separators=(',', ':')) + '\n')
        (arguments.out / 'demo-model.md').write_text(page(results))
    print(page(results))
    return bool(verdict(results['answers'])[2])


if __name__ == '__main__':
    sys.exit(main())

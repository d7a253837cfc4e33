"""Attention kernels beside PyTorch's, in one run on one GPU: errors, then medians of interleaved timings.

  make cuda && python3 bench/gpu/attention.py --out docs/benchmarks [--commit ID] [--quick]

Writes attention.md and attention.json. Needs PyTorch with CUDA; longhaul itself does not.
"""
import argparse
import ctypes
import json
import math
import pathlib
import random as random_numbers
import subprocess
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

aten = torch.ops.aten
ROOT = pathlib.Path(__file__).resolve().parents[2]
QUERY_HEADS, KV_HEADS = 32, 8


class Kernels:
    """The library that `make cuda` builds for this program."""

    def __init__(self, path):
        self.library = ctypes.CDLL(str(path))
        self.library.longhaul_attention_workspace.restype = ctypes.c_int64
        self.library.longhaul_attention_workspace.argtypes = [ctypes.c_int64] * 4
        self.library.longhaul_attention.argtypes = (
            [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 5 + [ctypes.c_void_p] * 7)

    def prepare(self, q, pieces, out=None, lse=None):
        """q [T, NQ, D]; pieces (keys [rows, NK, D], values, causal). Returns a call and its output."""
        queries, query_heads, dimension = q.shape
        kv_heads = pieces[0][0].shape[1]
        out = torch.full_like(q, math.nan) if out is None else out
        size = self.library.longhaul_attention_workspace(queries, query_heads, kv_heads, dimension)
        workspace = torch.empty(max(size, 16), dtype=torch.uint8, device='cuda')
        count = len(pieces)
        keys = (ctypes.c_void_p * count)(*[k.data_ptr() for k, _, _ in pieces])
        values = (ctypes.c_void_p * count)(*[v.data_ptr() for _, v, _ in pieces])
        rows = (ctypes.c_int64 * count)(*[k.shape[0] for k, _, _ in pieces])
        causal = (ctypes.c_int32 * count)(*[c for _, _, c in pieces])
        held = (q, pieces, workspace, lse)

        def call():
            stream = torch.cuda.current_stream().cuda_stream
            assert held and self.library.longhaul_attention(
                stream, q.data_ptr(), queries, query_heads, kv_heads, dimension, count, keys, values, rows, causal,
                out.data_ptr(), None if lse is None else lse.data_ptr(), workspace.data_ptr()) == 0
            return out

        return call


def random(*shape):
    return torch.randn(*shape, device='cuda', dtype=torch.bfloat16)


def heads_first(x):
    return x.transpose(0, 1).unsqueeze(0)  # [rows, heads, D] -> [1, heads, rows, D], the same memory


def torch_attention(backend, q, k, v, causal):
    """[1, heads, rows, D] in and out. causal: aligned at the end."""
    if backend == SDPBackend.FLASH_ATTENTION:  # takes fewer queries than keys, aligned at the end
        return aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal)[0]
    assert not causal or q.shape[2] == k.shape[2]
    with sdpa_kernel(backend):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)


def cudnn_with_lse(q, k, v, causal):
    out = aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, causal, False)
    return out[0], out[1]


def exact(q, pieces):
    """Attention in float32 (no TF32), 256 query rows at a time. [T, NQ, D], and LSE [T, NQ]."""
    torch.backends.cuda.matmul.allow_tf32 = False
    queries, query_heads, dimension = q.shape
    group = query_heads // pieces[0][0].shape[1]
    keys = torch.cat([k for k, _, _ in pieces]).float().repeat_interleave(group, 1).transpose(0, 1)
    values = torch.cat([v for _, v, _ in pieces]).float().repeat_interleave(group, 1).transpose(0, 1)
    outs, lses = [], []
    for first in range(0, queries, 256):
        rows = torch.arange(first, min(first + 256, queries), device='cuda')
        logits = q[rows].float().transpose(0, 1) @ keys.transpose(1, 2) / math.sqrt(dimension)
        visible = torch.cat([
            torch.arange(k.shape[0], device='cuda') <= rows[:, None] + (k.shape[0] - queries if c else k.shape[0])
            for k, _, c in pieces], 1)
        logits = logits.masked_fill(~visible, -math.inf)
        outs.append((logits.softmax(-1) @ values).transpose(0, 1))
        lses.append(logits.logsumexp(-1).transpose(0, 1))
    return torch.cat(outs), torch.cat(lses)


def relative(got, want):
    return ((got.float() - want).norm() / want.norm()).item()


def interleaved(calls, rounds, repeats):
    """Medians in ms. The calls take turns in rounds, in an order drawn anew for each. A call first runs untimed as
    often as it is then timed, so that it is timed at the clocks that its own power leaves, not its neighbour's."""
    times = {name: [] for name in calls}
    for call in calls.values():
        call(), call()
    order = random_numbers.Random(1)
    for _ in range(rounds):
        for name in order.sample(list(calls), len(calls)):
            events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
            for _ in range(repeats):
                calls[name]()
            events[0].record()
            for event in events[1:]:
                calls[name]()
                event.record()
            torch.cuda.synchronize()
            times[name] += [a.elapsed_time(b) for a, b in zip(events, events[1:])]
    return {name: sorted(t)[len(t) // 2] for name, t in times.items()}


def graph_of(calls):
    for call in calls:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()

    def replay(held=tuple(calls)):  # the graph uses their memory
        graph.replay()

    return replay


def pieces_of(dimension, *rows_and_causal):
    return [(random(rows, KV_HEADS, dimension), random(rows, KV_HEADS, dimension), causal) for rows, causal in rows_and_causal]


def check_errors(kernels, report):
    cases = {
        'causal 4K, D 128': (4096, 128, [(4096, True)]),
        'causal 4K, D 64': (4096, 64, [(4096, True)]),
        'APB: block 2000, anchor 1K, passing 3 x 500, D 128': (2000, 128, [(1024, False)] + [(500, False)] * 3 + [(2000, True)]),
        'decode: 1 query, 32K keys, D 128': (1, 128, [(32768, False)]),
        'decode: 40 queries, 16K keys, D 64': (40, 64, [(16384, False), (40, True)]),
    }
    for name, (queries, dimension, shape) in cases.items():
        q, pieces = random(queries, QUERY_HEADS, dimension), pieces_of(dimension, *shape)
        want, want_lse = exact(q, pieces)
        lse = torch.full((queries, QUERY_HEADS), math.nan, device='cuda')
        ours = relative(kernels.prepare(q, pieces, lse=lse)(), want)
        k = heads_first(torch.cat([k for k, _, _ in pieces]))
        v = heads_first(torch.cat([v for _, v, _ in pieces]))
        # Open pieces before a causal one of as many rows as queries: one causal mask aligned at the end.
        theirs = relative(torch_attention(SDPBackend.FLASH_ATTENTION, heads_first(q), k, v, shape[-1][1])[0].transpose(0, 1), want)
        report['errors'].append({'case': name, 'error': ours, 'torch_flash_error': theirs, 'ratio': ours / theirs,
                                 'lse_error': (lse - want_lse).abs().max().item()})
        print(f"{name}: error {ours:.2e}, torch flash {theirs:.2e}, LSE {report['errors'][-1]['lse_error']:.1e}", flush=True)
        assert ours <= 2 * theirs, 'the error is more than twice that of PyTorch'


def time_prefill(kernels, report, rounds):
    def add(name, flops, calls, repeats):
        ms = interleaved(calls, rounds, repeats)
        best = min((t, n) for n, t in ms.items() if n != 'longhaul')
        tflops = flops / ms['longhaul'] / 1e9
        report['prefill'].append({'case': name, 'flops': flops, 'ms': ms, 'tflops': tflops, 'best_torch': best[1],
                                  'speedup': best[0] / ms['longhaul'], 'share_of_matmul': tflops / report['matmul_tflops']})
        print(f"{name}: {ms['longhaul']:.3f} ms, {tflops:.0f} TFLOP/s; {best[1]} {best[0]:.3f} ms: {best[0] / ms['longhaul']:.2f}x; "
              + ', '.join(f'{n} {t:.3f}' for n, t in ms.items()), flush=True)

    cudnn, flash = SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION
    for dimension, rows, repeats in ((128, 16384, 12), (128, 32768, 5), (64, 16384, 12)):
        q, pieces = random(rows, QUERY_HEADS, dimension), pieces_of(dimension, (rows, True))
        k, v, _ = pieces[0]
        views = [heads_first(x) for x in (q, k, v)]
        dense = [x.contiguous() for x in views]
        add(f'causal {rows // 1024}K, D {dimension}', 2 * dimension * QUERY_HEADS * rows * rows, {
            'longhaul': kernels.prepare(q, pieces),
            'cudnn': lambda: torch_attention(cudnn, *views, True),
            'cudnn, heads first in memory': lambda: torch_attention(cudnn, *dense, True),
            'flash': lambda: torch_attention(flash, *views, True),
        }, repeats)

    block, anchor, passing, ranks, dimension = 16384, 4096, 2048, 7, 128
    q = random(block, QUERY_HEADS, dimension)
    pieces = pieces_of(dimension, (anchor, False), *[(passing, False)] * ranks, (block, True))
    earlier, own = pieces[:-1], pieces[-1]
    query = heads_first(q)

    def concatenated(some):
        return [heads_first(torch.cat([piece[i] for piece in some])) for i in (0, 1)]

    def two_cudnn():
        open_out, open_lse = cudnn_with_lse(query, *concatenated(earlier), False)
        own_out, own_lse = cudnn_with_lse(query, heads_first(own[0]), heads_first(own[1]), True)
        weight = torch.sigmoid(open_lse - own_lse).reshape(1, QUERY_HEADS, block, 1)
        return torch.lerp(own_out, open_out, weight.to(torch.bfloat16))

    pairs = block * (anchor + ranks * passing) + block * block / 2
    calls = {
        'longhaul': kernels.prepare(q, pieces),
        'flash, concatenated': lambda: torch_attention(flash, query, *concatenated(pieces), True),
        'cudnn, concatenated, two calls merged': two_cudnn,
    }
    got = {name: call() for name, call in calls.items()}
    for name in list(got)[1:]:
        difference = relative(got[name][0].transpose(0, 1), got['longhaul'].float())
        assert difference < 2e-2, f'{name} computes something else: {difference}'
    add('APB rank 7 of 8 at 128K: block 16K, anchor 4K, passing 7 x 2K, D 128', 4 * dimension * QUERY_HEADS * pairs, calls, 5)


def time_decode(kernels, report, rounds):
    flash = SDPBackend.FLASH_ATTENTION
    for keys, queries in [(131072, t) for t in (1, 4, 16, 64)] + [(16384, 1), (16384, 64)]:
        dimension, layers = 128, 8
        cache = [pieces_of(dimension, (keys, False)) for _ in range(layers)]  # more than the L2 cache holds
        q = random(queries, QUERY_HEADS, dimension)
        ours = graph_of([kernels.prepare(q, pieces) for pieces in cache])
        theirs = graph_of([
            lambda k=pieces[0][0], v=pieces[0][1]: torch_attention(flash, heads_first(q), heads_first(k), heads_first(v), False)
            for pieces in cache])
        ms = {name: t / layers for name, t in interleaved({'longhaul': ours, 'flash': theirs}, rounds, 6).items()}
        size = 2 * keys * KV_HEADS * dimension * 2
        rate = size / ms['longhaul'] / 1e6
        report['decode'].append({'keys': keys, 'queries': queries, 'bytes': size, 'ms': ms, 'gb_per_s': rate,
                                 'flops': 4 * dimension * QUERY_HEADS * keys * queries,
                                 'share_of_copy': rate / report['copy_gb_per_s'], 'speedup': ms['flash'] / ms['longhaul']})
        print(f"decode {queries} x {keys}: {ms['longhaul']:.4f} ms, {rate:.0f} GB/s, {rate / report['copy_gb_per_s']:.2f} of copy; "
              f"flash {ms['flash']:.4f}", flush=True)
        del cache, ours, theirs


def ceilings(report, rounds):
    a, b = random(8192, 8192), random(8192, 8192)
    x = torch.empty(1 << 30, dtype=torch.uint8, device='cuda').random_()
    y = torch.empty_like(x)
    ms = interleaved({'matmul': lambda: a @ b, 'copy': lambda: y.copy_(x)}, rounds, 12)
    report['matmul_tflops'] = 2 * 8192 ** 3 / ms['matmul'] / 1e9
    report['copy_gb_per_s'] = 2 * x.numel() / ms['copy'] / 1e6
    print(f"ceilings: matmul {report['matmul_tflops']:.0f} TFLOP/s, copy {report['copy_gb_per_s']:.0f} GB/s", flush=True)


def markdown(report):
    lines = ['# Attention on one GPU', '',
             f"{report['card']}, driver {report['driver']}, PyTorch {report['torch']}, cuDNN {report['cudnn']}, commit {report['commit']}, {report['date']}.",
             'Command: `python3 bench/gpu/attention.py --out docs/benchmarks`. Medians of calls that take turns in one process; '
             f'{QUERY_HEADS} query heads, {KV_HEADS} key/value heads, bfloat16. Ceilings of the same run: '
             f"matmul 8192^3 {report['matmul_tflops']:.0f} TFLOP/s, device copy {report['copy_gb_per_s']:.0f} GB/s (read and written).", '',
             '## Prefill', '', '| what | ms | TFLOP/s | of matmul | best PyTorch | its ms | speed-up |', '|---|---|---|---|---|---|---|']
    for r in report['prefill']:
        lines.append(f"| {r['case']} | {r['ms']['longhaul']:.3f} | {r['tflops']:.0f} | {r['share_of_matmul']:.2f} | {r['best_torch']} | "
                     f"{r['ms'][r['best_torch']]:.3f} | {r['speedup']:.2f}x |")
    lines += ['', 'All timings, ms:', '']
    lines += [f"- {r['case']}: " + ', '.join(f'{n} {t:.3f}' for n, t in r['ms'].items()) for r in report['prefill']]
    lines += ['', '## Decode', '', 'A CUDA graph of 8 layers with a cache each; per layer. Bytes: keys and values once.', '',
              '| keys | queries | MB | GFLOP | ms | GB/s | of copy | PyTorch flash, ms | speed-up |', '|---|---|---|---|---|---|---|---|---|']
    for r in report['decode']:
        lines.append(f"| {r['keys']} | {r['queries']} | {r['bytes'] / 1e6:.0f} | {r['flops'] / 1e9:.1f} | {r['ms']['longhaul']:.4f} | {r['gb_per_s']:.0f} | "
                     f"{r['share_of_copy']:.2f} | {r['ms']['flash']:.4f} | {r['speedup']:.2f}x |")
    lines += ['', '## Errors', '', 'Norm of the difference from float32 attention over its norm.', '',
              '| what | longhaul | PyTorch flash | ratio | largest error of LSE |', '|---|---|---|---|---|']
    for r in report['errors']:
        lines.append(f"| {r['case']} | {r['error']:.2e} | {r['torch_flash_error']:.2e} | {r['ratio']:.2f} | {r['lse_error']:.1e} |")
    return '\n'.join(lines) + '\n'


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument('--out', type=pathlib.Path, required=True, help='folder for attention.md and attention.json')
    arguments.add_argument('--library', type=pathlib.Path, default=ROOT / 'build/native/attention-bench.so')
    arguments.add_argument('--commit', default='', help='of the code that was measured')
    arguments.add_argument('--quick', action='store_true', help='fewer repetitions')
    options = arguments.parse_args()
    if not torch.cuda.is_available():
        arguments.error('PyTorch sees no CUDA device here')
    if not options.library.exists():
        arguments.error(f'{options.library} is not there: run `make cuda` first')
    rounds = 3 if options.quick else 9
    torch.manual_seed(1)
    driver = subprocess.run(['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader'], capture_output=True, text=True, check=True)
    report = {'card': torch.cuda.get_device_name(), 'driver': driver.stdout.split()[0], 'torch': torch.__version__,
              'cudnn': torch.backends.cudnn.version(), 'commit': options.commit, 'date': time.strftime('%Y-%m-%d'),
              'errors': [], 'prefill': [], 'decode': []}
    kernels = Kernels(options.library)
    check_errors(kernels, report)
    ceilings(report, rounds)
    time_prefill(kernels, report, rounds)
    time_decode(kernels, report, rounds)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / 'attention.json').write_text(json.dumps(report, indent=2) + '\n')
    (options.out / 'attention.md').write_text(markdown(report))


if __name__ == '__main__':
    main()

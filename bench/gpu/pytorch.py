"""PyTorch's side of the benchmarks: the same work at the same shapes, as JSON lines like bench-cuda's.

  python3 bench/gpu/pytorch.py ops | products
  python3 bench/gpu/pytorch.py prefill TOKENS [flash|cudnn]
  python3 bench/gpu/pytorch.py checkpoint DIRECTORY LAYERS
"""
import json
import pathlib
import statistics
import sys
import time

import torch

IN_TURNS = sys.argv[1:] == ['products']


def seconds(call, runs=9, batch=0.02):
    """Of one call: the median of batches, as bench-cuda times, each when its turn has come."""
    def timed(count):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            call()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / count
    timed(3)
    count = max(1, min(1000, int(batch / timed(3))))

    def in_turn():
        if IN_TURNS:
            print('turn', flush=True)
            if not sys.stdin.readline():
                sys.exit(1)
            timed(1)
        return timed(count)
    return statistics.median(in_turn() for _ in range(runs))


def report(what, time, **more):
    print(json.dumps({'what': what, 'seconds': time, **more}), flush=True)


def products():
    torch.manual_seed(0)
    for n, k in [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (1024, 6144)]:
        weight = torch.randn(n, k, device='cuda', dtype=torch.bfloat16) * 0.02
        for rows in (1, 4096, 8192):
            x = torch.randn(rows, k, device='cuda', dtype=torch.bfloat16)
            out = torch.empty(rows, n, device='cuda', dtype=torch.bfloat16)
            report(f'gemm {rows}x{k}x{n}', seconds(lambda: torch.matmul(x, weight.T, out=out)))
            if n == 4096:
                report(f'gemm + residual {rows}x{k}x{n}', seconds(lambda: torch.addmm(out, x, weight.T, out=out)))


def ops():
    torch.manual_seed(0)
    scores = torch.randn(8, 16384, device='cuda')
    keys, values = (torch.randn(16384, 8, 128, device='cuda', dtype=torch.bfloat16) for _ in range(2))

    def select():
        chosen = torch.topk(scores, 2048, dim=1, sorted=False).indices.T[:, :, None].expand(-1, -1, 128)
        return torch.gather(keys, 0, chosen), torch.gather(values, 0, chosen)

    report('top 2048 of 16384 and gather', seconds(select))
    report('top 2048 of 16384, 8 heads', seconds(lambda: torch.topk(scores, 2048, dim=1, sorted=False)))


def prefill(tokens, attention):
    """Hugging Face's Llama, one forward pass, logits of the last token, attention pinned to one kernel."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from transformers import LlamaConfig, LlamaForCausalLM
    config = LlamaConfig(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
                         num_key_value_heads=8, vocab_size=128256, max_position_embeddings=1 << 20, rope_theta=500000.0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device('cuda'):
        model = LlamaForCausalLM._from_config(config, attn_implementation='sdpa').eval()
    kernel = {'flash': SDPBackend.FLASH_ATTENTION, 'cudnn': SDPBackend.CUDNN_ATTENTION}[attention]

    def run(count):
        ids = torch.randint(0, 128256, (1, count), device='cuda')
        torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.inference_mode(), sdpa_kernel(kernel):
            model(ids, use_cache=True, logits_to_keep=1)
        torch.cuda.synchronize()
        return time.perf_counter() - start

    run(4096)
    times = [run(tokens) for _ in range(2 if tokens <= 65536 else 1)]
    report(f'prefill full, {tokens} tokens', min(times), note=f'transformers, {attention} SDPA')


def checkpoint(directory, layers):
    """A sharded checkpoint of Llama-3.1-8B's shapes with random weights, a layer per shard."""
    from safetensors.torch import save_file
    path = pathlib.Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    config = dict(architectures=['LlamaForCausalLM'], model_type='llama', hidden_size=4096, intermediate_size=14336,
                  num_hidden_layers=layers, num_attention_heads=32, num_key_value_heads=8, vocab_size=32000,
                  rms_norm_eps=1e-5, rope_theta=500000.0, max_position_embeddings=131072, hidden_act='silu',
                  tie_word_embeddings=True)
    (path / 'config.json').write_text(json.dumps(config))
    weight_map = {}

    def save(file, tensors):
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, path / file)
        weight_map.update({name: file for name in tensors})

    def random(*shape):
        return torch.randn(*shape, device='cuda').mul_(0.02).bfloat16()

    save('outer.safetensors', {'model.embed_tokens.weight': random(32000, 4096), 'model.norm.weight': random(4096)})
    for i in range(layers):
        shapes = {'self_attn.q_proj': (4096, 4096), 'self_attn.k_proj': (1024, 4096), 'self_attn.v_proj': (1024, 4096),
                  'self_attn.o_proj': (4096, 4096), 'mlp.gate_proj': (14336, 4096), 'mlp.up_proj': (14336, 4096),
                  'mlp.down_proj': (4096, 14336), 'input_layernorm': (4096,), 'post_attention_layernorm': (4096,)}
        save(f'layer-{i}.safetensors', {f'model.layers.{i}.{name}.weight': random(*shape) for name, shape in shapes.items()})
    (path / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': weight_map}))


if __name__ == '__main__':
    if sys.argv[1] == 'ops':
        ops()
    elif sys.argv[1] == 'products':
        products()
    elif sys.argv[1] == 'prefill':
        prefill(int(sys.argv[2]), sys.argv[3])
    else:
        checkpoint(sys.argv[2], int(sys.argv[3]))

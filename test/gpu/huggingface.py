"""Random Llama and Qwen2 models of more than 1B parameters, made here in Hugging Face's layout: the engine's logits
after 8K tokens beside transformers'. Both run in bfloat16; the yardstick is transformers in float32.

  make cuda && python3 test/gpu/huggingface.py [DIRECTORY]

Passes when the engine's error is at most twice that of transformers in bfloat16.
"""
import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENS, QUERY, FED = 8192, 24, 16

MODELS = {
    'llama': (LlamaForCausalLM, LlamaConfig(
        hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
        head_dim=64, vocab_size=128256, max_position_embeddings=131072, tie_word_embeddings=True, rms_norm_eps=1e-5,
        rope_theta=500000.0, rope_scaling={'rope_type': 'llama3', 'factor': 32.0, 'low_freq_factor': 1.0,
                                           'high_freq_factor': 4.0, 'original_max_position_embeddings': 8192})),
    'qwen2': (Qwen2ForCausalLM, Qwen2Config(
        hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2,
        vocab_size=151936, max_position_embeddings=131072, tie_word_embeddings=True, rms_norm_eps=1e-6, rope_theta=1e6)),
}


def make(kind, config):
    torch.manual_seed(7)
    model = kind._from_config(config, attn_implementation='sdpa')
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith('bias'):
                parameter.normal_(0, 0.5)
            elif 'norm' in name:
                parameter.uniform_(0.5, 1.5)
            elif 'q_proj' in name or 'k_proj' in name:
                # So that attention prefers some keys; with more, the Llama model is chaos in bfloat16.
                parameter.mul_(2.5 if isinstance(config, Qwen2Config) else 1.25)
    return model.to(torch.bfloat16)


def load(kind, path, dtype):
    """As anyone loads it: casting a model would also round its rotary frequencies."""
    return kind.from_pretrained(path, dtype=dtype, attn_implementation='sdpa').to('cuda').eval()


def logits(model, ids, last):
    with torch.inference_mode():
        return model(ids, use_cache=False, logits_to_keep=last).logits[0].float()


def main(directory):
    failed = False
    for name, (kind, config) in MODELS.items():
        path = directory / name
        make(kind, config).save_pretrained(path)
        model = load(kind, path, torch.bfloat16)
        ids = torch.randint(0, config.vocab_size, (1, TOKENS + FED), device='cuda')
        # Row j predicts the token at TOKENS + j: the first comes from the query's last token.
        rounded = logits(model, ids, FED + 1)[:FED]
        model = load(kind, path, torch.float32)
        exact = logits(model, ids, FED + 1)[:FED]
        parameters = sum(parameter.numel() for parameter in model.parameters())
        del model
        torch.cuda.empty_cache()
        ids[0].cpu().numpy().astype(numpy.uint32).tofile(directory / 'ids')
        subprocess.run([ROOT / 'build/native/bench-cuda', 'logits', path, directory / 'ids', str(TOKENS - QUERY), str(QUERY),
                        directory / 'logits'], check=True)
        ours = torch.from_numpy(numpy.fromfile(directory / 'logits', numpy.float32)).reshape(FED, -1).cuda()
        scale = exact.std()
        mine, theirs = ((x - exact).abs().max() / scale for x in (ours, rounded))
        spread, their_spread = ((x - exact).norm() / exact.norm() for x in (ours, rounded))
        same = (ours.argmax(1) == exact.argmax(1)).float().mean()
        their_same = (rounded.argmax(1) == exact.argmax(1)).float().mean()
        ok = bool(mine <= 2 * theirs and spread <= 2 * their_spread)  # false for NaN
        failed |= not ok
        print(f'{"ok  " if ok else "FAIL"} {name}, {parameters / 1e9:.2f}B parameters, {TOKENS} tokens: largest error {mine:.4f} std '
              f'(transformers in bfloat16 {theirs:.4f}), relative {spread:.5f} ({their_spread:.5f}), same choice {same:.2f} ({their_same:.2f})')
    return failed


if __name__ == '__main__':
    if len(sys.argv) > 1:
        sys.exit(main(pathlib.Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(pathlib.Path(made)))

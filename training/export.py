"""Writes a run as a Hugging Face checkpoint in bfloat16.

    python3 -m training.export --out RUN --to models/demo
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from .demo_heads import load_model
from .model import Config, Model, retaining
from .tokenizer import ANSWER, BOS, CHAT_TEMPLATE, EOS, QUESTION, Encoder
from .train import load_encoder

MAX_POSITIONS = 33792  # documents of 32768 tokens, a question and its answer


def model_config(c: Config, encode: Encoder) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "hidden_size": c.hidden, "intermediate_size": c.intermediate,
        "num_hidden_layers": c.layers, "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads, "head_dim": c.head_dim, "vocab_size": c.vocab,
        "rms_norm_eps": c.norm_eps, "rope_theta": c.rope_theta, "rope_scaling": None,
        "max_position_embeddings": MAX_POSITIONS, "hidden_act": "silu", "attention_bias": False,
        "mlp_bias": False, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "bos_token_id": encode.bos, "eos_token_id": encode.eos,
        "retaining_head_hidden_size": c.retaining_hidden,
    }


def tokenizer_config(spaced: bool) -> dict:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_POSITIONS,
        "bos_token": BOS, "eos_token": EOS, "pad_token": EOS, "add_bos_token": False,
        "clean_up_tokenization_spaces": False, "chat_template": CHAT_TEMPLATE,
        "prompt_format": {
            "document_prefix": BOS, "query_prefix": QUESTION, "query_suffix": ANSWER,
            "answer_suffix": EOS, "strip_answer": True,
            "answers_begin_with_space": "words" if spaced else "never",
        },
    }


def export(model: Model, encode: Encoder, run: Path, to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    weights: dict[str, Tensor] = {}
    heads: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        part = heads if retaining(name) else weights
        part["model." + name] = tensor.to(torch.bfloat16).contiguous().cpu()
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    save_file(heads, to / "retaining_heads.safetensors", metadata={"format": "pt"})
    files = {
        "config.json": model_config(model.config, encode),
        "tokenizer_config.json": tokenizer_config(encode.spaced),
        "generation_config.json": {
            "bos_token_id": encode.bos, "eos_token_id": encode.eos, "pad_token_id": encode.eos,
            "do_sample": False, "max_new_tokens": 48},
    }
    for name, content in files.items():
        (to / name).write_text(json.dumps(content, indent=2) + "\n")
    shutil.copy(run / "tokenizer.json", to / "tokenizer.json")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--to", type=Path, required=True)
    a = p.parse_args()
    export(load_model(a.out, "cpu"), load_encoder(a.out), a.out, a.to)


if __name__ == "__main__":
    main()

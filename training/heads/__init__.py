"""Retaining heads for any Hugging Face Llama or Qwen2 directory, trained as Locret trains them (Huang et al., 2024).

    python3 -m training.heads train --model DIR --data questions.jsonl --out RUN
    python3 -m training.heads recall --model DIR --data questions.jsonl [--heads FILE]
"""

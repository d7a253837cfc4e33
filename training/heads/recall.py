"""How many of the keys that an answer looks at most the heads would pass."""

from __future__ import annotations

import torch
from torch import Tensor

POOL = 5  # max-pooling over positions before the selection, as the engine does it


def pooled(scores: Tensor) -> Tensor:
    """[n, Hkv] -> the largest of each score and its neighbours."""
    return torch.nn.functional.max_pool1d(scores.T, POOL, stride=1, padding=POOL // 2).T


def best(scores: Tensor, count: int) -> Tensor:
    """[n, Hkv] -> [n, Hkv], 1 on the `count` largest of each head."""
    return torch.zeros_like(scores).scatter_(0, scores.topk(count, 0).indices, 1.0)


def recall(scores: Tensor, wanted: Tensor, ranks: int, passing: int) -> tuple[float, float]:
    """Both [n, Hkv]. Each rank but the last passes the best `passing` of its block, chosen by pooled scores; -> the share
    of the labels' best `passing` of the same blocks that is passed, and the share that a random choice would pass."""
    shares, chances = [], []
    for s, w in list(zip(scores.chunk(ranks), wanted.chunk(ranks)))[: max(1, ranks - 1)]:
        count = min(passing, s.shape[0])
        shares.append((best(pooled(s), count) * best(w, count)).sum().item() / (count * s.shape[1]))
        chances.append(count / s.shape[0])
    return sum(shares) / len(shares), sum(chances) / len(chances)

"""Distributed prefill (full, Star, APB) simulated on one device, and greedy decoding over its cache.

Symbols in shapes: B documents, n document tokens, H ranks, A anchor tokens, b = n / H block tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import QUERY_POSITION
from .model import Model, attention

POOL = 5  # rows over which retaining scores are max-pooled
MASK = (1 << 64) - 1
Cache = list[tuple[Tensor, Tensor]]  # per layer: k with RoPE, v, both [B, n, Hkv, D]


@dataclass(frozen=True)
class Method:
    """How the document is computed. `select` is 'heads' or 'random' (with `seed`)."""

    kind: str  # full, star, apb
    ranks: int = 1
    l_a: int = 0
    l_p: int = 0
    select: str = "heads"
    seed: int = 0


def make_anchors(
    documents: Tensor, queries: list[list[int]], method: Method,
) -> tuple[Tensor | None, list[int]]:
    """-> (anchor ids of the ranks > 0 [B, A], how many of them are document tokens, per document).

    Star: the first l_a document tokens. APB: l_a tokens in all, the query after the first 16.
    """
    if method.kind == "full" or method.ranks == 1 or method.l_a == 0:
        return None, [0] * len(queries)
    if method.kind == "star":
        return documents[:, : method.l_a], [method.l_a] * len(queries)
    rows, held = [], []
    for document, query in zip(documents, queries):
        if len(query) + QUERY_POSITION > method.l_a:
            raise ValueError("the anchor is too short for the query")
        held.append(method.l_a - len(query))
        ids = torch.tensor(query, device=documents.device)
        rows.append(torch.cat((document[:QUERY_POSITION], ids, document[QUERY_POSITION:held[-1]])))
    return torch.stack(rows), held


def signed(value: int) -> int:
    """The 64-bit integer with the same bits as value mod 2**64."""
    value &= MASK
    return value - (1 << 64) if value >> 63 else value


def random_scores(seed: int, layer: int, kv_heads: int, start: int, end: int) -> Tensor:
    """Portable pseudo-random scores [end - start, Hkv] of document tokens: splitmix64 of a mixed key."""

    def shift(z: Tensor, bits: int) -> Tensor:  # logical
        return (z >> bits) & ((1 << (64 - bits)) - 1)

    columns = []
    for head in range(kv_heads):
        base = ((seed * 1000003 + layer) * 1000003 + head) * 1000003 + 0x9E3779B97F4A7C15
        z = torch.arange(start, end) + signed(base)
        z = (z ^ shift(z, 30)) * signed(0xBF58476D1CE4E5B9)
        z = (z ^ shift(z, 27)) * signed(0x94D049BB133111EB)
        columns.append(shift(z ^ shift(z, 31), 11).double() / 2.0**53)
    return torch.stack(columns, 1)


def select_rows(scores: Tensor, first: list[int], count: int) -> Tensor:
    """Best `count` rows per document and head among rows >= first: scores [B, b, Hkv] -> [B, m, Hkv].

    Ties go to the lower row: pooling makes exact ties common.
    """
    rows = torch.arange(scores.shape[1], device=scores.device)[None, :, None]
    start = torch.tensor(first, device=scores.device)[:, None, None]
    scores = scores.masked_fill(rows < start, -torch.inf)
    count = min(count, scores.shape[1])
    if count > scores.shape[1] - max(first):
        raise ValueError("fewer candidates on rank 0 than passed tokens")
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :count]


def pool(scores: Tensor) -> Tensor:
    """Max over 5 neighbouring rows: [B, n, Hkv] -> [B, n, Hkv]."""
    return F.max_pool1d(scores.transpose(1, 2), POOL, 1, POOL // 2).transpose(1, 2)


@torch.no_grad()
def prefill(model: Model, documents: Tensor, queries: list[list[int]], method: Method) -> Cache:
    """documents [B, n] (n divisible by the ranks) -> the cache of all blocks, in document order."""
    n, device, c = documents.shape[1], documents.device, model.config
    ranks = 1 if method.kind == "full" else method.ranks
    if n % ranks:
        raise ValueError("the document does not divide into equal blocks")
    b = n // ranks
    anchor, held = make_anchors(documents, queries, method)
    size = 0 if anchor is None else anchor.shape[1]
    a_len = [size if rank else 0 for rank in range(ranks)]

    xs, positions = [], []
    for rank in range(ranks):
        block = documents[:, rank * b : (rank + 1) * b]
        ids = torch.cat((anchor, block), 1) if a_len[rank] else block
        xs.append(model.embed_tokens(ids))
        own = torch.arange(rank * b, (rank + 1) * b, device=device)
        positions.append(torch.cat((torch.arange(a_len[rank], device=device), own)))

    cache: Cache = []
    for i, layer in enumerate(model.layers):
        qkv, passed = [], []
        for rank in range(ranks):
            a, flat = a_len[rank], layer.project(xs[rank])
            q, k, v = layer.rotate(*flat, positions[rank])
            qkv.append((q, k, v))
            if method.kind != "apb" or method.l_p == 0 or rank == ranks - 1:
                continue
            if method.select == "random":
                scores = random_scores(method.seed, i, c.kv_heads, rank * b, (rank + 1) * b)
                scores = scores.to(device).expand(len(queries), -1, -1)
            else:
                scores = pool(layer.retaining_scores(*flat).float())[:, a:]
            rows = select_rows(scores, held if rank == 0 else [0] * len(queries), method.l_p)
            at = rows[..., None].expand(-1, -1, -1, c.head_dim)
            passed.append((k[:, a:].gather(1, at), v[:, a:].gather(1, at)))
        for rank, (q, k, v) in enumerate(qkv):
            a, before = a_len[rank], passed[:rank]
            keys = torch.cat([k[:, :a], *(p[0] for p in before), k[:, a:]], 1)
            values = torch.cat([v[:, :a], *(p[1] for p in before), v[:, a:]], 1)
            out = attention(q[:, a:], keys, values)
            if a:
                out = torch.cat((attention(q[:, :a], k[:, :a], v[:, :a]), out), 1)
            xs[rank] = layer.finish(xs[rank], out)
        cache.append((torch.cat([k[:, a:] for (_, k, _), a in zip(qkv, a_len)], 1),
                      torch.cat([v[:, a:] for (_, _, v), a in zip(qkv, a_len)], 1)))
    return cache


@torch.no_grad()
def extend(model: Model, ids: Tensor, cache: Cache, start: int) -> Tensor:
    """ids [B, m] at positions start.. after the cached document -> logits [B, m, vocab]."""
    x = model.embed_tokens(ids)
    positions = torch.arange(start, start + ids.shape[1], device=ids.device)
    for layer, (past_k, past_v) in zip(model.layers, cache):
        q, k, v = layer.rotate(*layer.project(x), positions)
        x = layer.finish(x, attention(q, torch.cat((past_k, k), 1), torch.cat((past_v, v), 1)))
    return model.logits(model.norm(x))


@dataclass(frozen=True)
class Decoded:
    """Greedy tokens, `<|eos|>` included if it came, and the least gap of the two best logits."""

    tokens: list[int]
    margin: float


@torch.no_grad()
def greedy(
    model: Model, cache: Cache, queries: list[list[int]], guesses: list[list[int]], start: int,
    max_new: int, eos: int,
) -> list[Decoded]:
    """Greedy answers to one query per document.

    All positions of an answer are computed at once from a guess of it; where a position's best
    token differs from the guess, that token becomes the guess, until nothing changes. Token i
    depends on the tokens before it only, so the fixed point is what one token at a time gives, and
    every round settles at least one more token.
    """
    device = cache[0][0].device
    guess = [(g + [eos] * max_new)[:max_new] for g in guesses]
    width = max(map(len, queries)) + max_new
    for _ in range(max_new + 1):
        ids = [(q + g + [eos] * width)[:width] for q, g in zip(queries, guess)]
        logits = extend(model, torch.tensor(ids, device=device), cache, start).float()
        at = torch.tensor([[len(q) - 1 + j for j in range(max_new)] for q in queries], device=device)
        logits = logits.gather(1, at[..., None].expand(-1, -1, logits.shape[-1]))
        best = logits.topk(2, -1)
        tokens, gaps = best.indices[..., 0].tolist(), (best.values[..., 0] - best.values[..., 1])
        ends = [row.index(eos) + 1 if eos in row else max_new for row in tokens]
        if all(g[: e - 1] == row[: e - 1] for g, row, e in zip(guess, tokens, ends)):
            gaps = gaps.tolist()
            return [Decoded(row[:e], min(gap[:e])) for row, gap, e in zip(tokens, gaps, ends)]
        guess = tokens
    raise AssertionError("greedy decoding did not settle")

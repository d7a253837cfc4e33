"""Training samples (document and many questions) and single questions (for heads and evaluation)."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .corpus import MIX, TRAINING_MIX, Filler, MakeFact, make_document, passkey, read_verses
from .tokenizer import Encoder

QUERY_POSITION = 16  # document tokens before the query where an anchor block carries it
HELD_OUT = 0.1  # last part of the verses, which training and the tokenizer never see


def split_verses(path: str) -> tuple[Filler, Filler]:
    """-> (filler for training, filler for evaluation)."""
    verses = read_verses(path)
    cut = int(len(verses) * (1 - HELD_OUT))
    return Filler(verses[:cut]), Filler(verses[cut:])


def stable_random(*key: object) -> random.Random:
    """The same generator for the same key, in every process and version of Python."""
    text = "/".join(map(str, key))
    return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def log_uniform(r: random.Random, high: float) -> int:
    """An integer from 1 to high, every order of magnitude equally likely."""
    return round(math.exp(r.uniform(0, math.log(high))))


def training_sample(
    r: random.Random, filler: Filler, encode: Encoder, length: int,
) -> tuple[np.ndarray, np.ndarray]:
    """-> ids [length] int32, weights [length] float32: 1 on answers, 0.1 on a tenth of the rest.

    Half of the documents carry a question after 16 tokens, as ranks > 0 see it in their anchor.
    Half hold few facts, and half any number; a third hold one kind alone, whose keys are then all
    that tells one from another.
    """
    most = max(3, min(64, length // 48))
    n_facts = log_uniform(r, most) if r.random() < 0.5 else r.randint(2, most)
    mix = TRAINING_MIX
    if r.random() < 1 / 3:
        kinds = {kind: weight for kind, weight in TRAINING_MIX.items() if kind is not passkey}
        mix = {r.choices(list(kinds), list(kinds.values()))[0]: 1.0}
    reserved = min(length // 2, max(64, n_facts * 40)) + 40  # for questions and answers
    document, questions = make_document(r, filler, encode, length - reserved, n_facts, mix)
    r.shuffle(questions)
    ids = [encode.bos, *document]
    if questions and r.random() < 0.5:
        ids[QUERY_POSITION:QUERY_POSITION] = encode.query(questions[0].text)
    weights = [0.0] * len(ids)
    for i, question in enumerate(questions):
        query, reply = encode.query(question.text), encode.reply(question.answer)
        if i and len(ids) + len(query) + len(reply) > length:
            break
        ids += query + reply
        weights += [0.0] * len(query) + [1.0] * len(reply)
    used = min(len(ids), length)
    out = np.full(length, encode.eos, np.int32)
    out[:used] = ids[:used]
    weight = np.zeros(length, np.float32)
    weight[:used] = weights[:used]
    sampled = np.random.default_rng(r.getrandbits(32)).random(length) < 0.1
    sampled[used:] = False
    weight[(weight == 0) & sampled] = 0.1
    return out, weight


@dataclass(frozen=True)
class Case:
    """One document with one question: document ids [n], the query's and the expected answer's ids."""

    document: np.ndarray
    query: list[int]
    expected: list[int]


def single_question(
    r: random.Random, filler: Filler, encode: Encoder, n: int, n_facts: int | None = None,
    only: MakeFact | None = None, task: str | None = None,
) -> Case:
    """A document of exactly n tokens, `<|bos|>` included, and one of its questions."""
    while True:
        facts = n_facts or log_uniform(r, max(3, min(40, n // 100)))
        mix = MIX if only is None else {only: 1.0}
        document, questions = make_document(r, filler, encode, n - 1, facts, mix)
        questions = [q for q in questions if task in (None, q.task)]
        if questions and len(document) == n - 1:
            q = r.choice(questions)
            ids = np.array([encode.bos, *document], np.int32)
            return Case(ids, encode.query(q.text), encode.reply(q.answer))


class TrainingStream(IterableDataset):
    """Endless training samples; every worker draws from its own generator."""

    def __init__(self, filler: Filler, encode: Encoder, length: int, key: str) -> None:
        self.filler, self.encode, self.length, self.key = filler, encode, length, key

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        r = stable_random(self.key, self.length, get_worker_info().id)
        while True:
            yield training_sample(r, self.filler, self.encode, self.length)


class QuestionStream(IterableDataset):
    """Endless single questions on documents of `length` tokens."""

    def __init__(self, filler: Filler, encode: Encoder, length: int, key: str) -> None:
        self.filler, self.encode, self.length, self.key = filler, encode, length, key

    def __iter__(self) -> Iterator[Case]:
        r = stable_random(self.key, self.length, get_worker_info().id)
        while True:
            yield single_question(r, self.filler, self.encode, self.length)


def training_batches(
    stream: TrainingStream, batch: int, workers: int,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """-> batches of (ids [batch, length], weights [batch, length]), made in worker processes."""
    return iter(DataLoader(stream, batch_size=batch, num_workers=workers, prefetch_factor=4,
                           pin_memory=torch.cuda.is_available()))


def question_batches(stream: QuestionStream, batch: int, workers: int) -> Iterator[list[Case]]:
    return iter(DataLoader(stream, batch_size=batch, num_workers=workers, prefetch_factor=4,
                           collate_fn=list))

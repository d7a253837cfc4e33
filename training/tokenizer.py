"""The demo model's tokenizer: byte-level BPE of 4096 with Qwen2's pre-tokenizer, and the prompt format.

Prompt: `<|bos|>` document `<|question|>` question `<|answer|>` answer `<|eos|>`.
"""

from __future__ import annotations

import random
from pathlib import Path

import regex
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from .corpus import Filler, make_document

BOS, QUESTION, ANSWER, EOS = SPECIAL = ("<|bos|>", "<|question|>", "<|answer|>", "<|eos|>")
VOCAB = 4096
PIECE = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
# One template for the whole conversation; a document is the content of the system message.
CHAT_TEMPLATE = (
    "{{ '<|bos|>' }}{% for message in messages %}"
    "{% if message['role'] in ['system', 'document'] %}{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}"
    "{{ '<|question|>' + message['content'] + '<|answer|>' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + '<|eos|>' }}"
    "{% endif %}{% endfor %}")


def answer_text(answer: str, spaced: bool) -> str:
    """The answer as it is encoded, so that its tokens are those of its mention in the document.

    A word is mentioned with a space before it and that space is part of its token; a digit is a
    token of its own. Off (`spaced=False`) nothing is put before the answer.
    """
    return answer if not spaced or answer[0].isdigit() else " " + answer


def build_tokenizer(filler: Filler, spaced: bool) -> Tokenizer:
    """Train the BPE on 1500 small documents, their questions and answers, and a third of the verses."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECE), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    r = random.Random(1)
    text: list[str] = []
    for _ in range(1500):
        # Documents counted in sentences here: one "token" is one sentence, and is its text.
        sentences, questions = make_document(
            r, filler, lambda s: [s], r.randint(5, 60), r.randint(1, 20))  # type: ignore
        text.append("".join(sentences))  # type: ignore
        text += [q.text for q in questions] + [answer_text(q.answer, spaced) for q in questions]
    text += [" " + verse for verse in filler.verses[::3]]
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=list(SPECIAL), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


class Encoder:
    """Encodes text piece by piece with a memory of the pieces seen: much faster than the library."""

    def __init__(self, path: str | Path, spaced: bool) -> None:
        self.tokenizer = Tokenizer.from_file(str(path))
        self.spaced = spaced
        self.bos, self.question, self.answer, self.eos = map(self.tokenizer.token_to_id, SPECIAL)
        self._pieces = regex.compile(PIECE)
        self._memory: dict[str, list[int]] = {}

    def __call__(self, text: str) -> list[int]:
        out: list[int] = []
        for piece in self._pieces.findall(text):
            ids = self._memory.get(piece)
            if ids is None:
                ids = self._memory[piece] = self.tokenizer.encode(piece).ids
            out += ids
        return out

    def query(self, question: str) -> list[int]:
        """What goes into the anchor and after the document."""
        return [self.question, *self(question), self.answer]

    def reply(self, answer: str) -> list[int]:
        return [*self(answer_text(answer, self.spaced)), self.eos]

    def decode(self, ids: list[int]) -> str:
        """Generated ids up to the end of the answer -> its text, without the leading space."""
        ids = ids[: ids.index(self.eos)] if self.eos in ids else ids
        return self.tokenizer.decode(ids).strip()

"""Questions with answers, as token ids in longhaul's own prompt.

A line of the file is {"document": text, "question": text, "answer": text}. The prompt is that of the model's
longhaul.json where it has one, else of its chat template: the document and the question, an empty line between them, as
one message of the user. The answer is taken as it is written, a leading space included.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

DOCUMENT, QUESTION = "\u2983document\u2984", "\u2983question\u2984"  # rendered in place of the texts, then cut at


@dataclass(frozen=True)
class Sample:
    """Token ids: the document [n], what asks about it, the answer. `name` says which line it was."""

    document: list[int]
    query: list[int]
    answer: list[int]
    name: str


@dataclass(frozen=True)
class Prompt:
    """The text before the document, after it, before the question and after it."""

    before_document: str
    after_document: str
    before_question: str
    after_question: str


def read_prompt(directory: Path, tokenizer) -> Prompt:
    own = directory / "longhaul.json"
    if own.exists():
        parts = json.loads(own.read_text())
        return Prompt(parts["document_prefix"], "", parts["query_prefix"], parts["query_suffix"])
    if tokenizer.chat_template is None:
        raise SystemExit(f"{directory} has neither a longhaul.json nor a chat template, so its prompt is not known")
    message = {"role": "user", "content": f"{DOCUMENT}\n\n{QUESTION}"}
    text = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    before, _, rest = text.partition(DOCUMENT)
    between, _, after = rest.partition(QUESTION)
    if between != "\n\n":
        raise SystemExit(f"the chat template of {directory} changes what a message holds; write a longhaul.json beside it")
    return Prompt(before, between, "", after)


def read_samples(path: Path, prompt: Prompt, tokenizer, most: int) -> list[Sample]:
    """All lines; documents are cut to `most` tokens, as Locret cuts its prompts."""

    def ids(text: str, special: bool = False) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not special)

    samples = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise SystemExit(f"{where} is not JSON: {error}")
        for field in ("document", "question", "answer"):
            if not isinstance(value, dict) or not isinstance(value.get(field), str) or value[field] == "":
                raise SystemExit(f'{where} needs a text "{field}"')
        document = ids(prompt.before_document, special=True) + ids(value["document"])
        query = ids(prompt.before_question, special=True) + ids(value["question"]) + ids(prompt.after_question, special=True)
        cut = document[:most] + ids(prompt.after_document)
        samples.append(Sample(cut, query, ids(value["answer"]), where))
    if not samples:
        raise SystemExit(f"{path} holds no line")
    return samples

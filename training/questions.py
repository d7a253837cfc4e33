"""Questions as training.heads reads them, over the demo model's documents.

    python3 -m training.questions --model models/demo --filler kjv.txt --count 1500 --tokens 4096 --to questions.jsonl
"""

from __future__ import annotations

import argparse
import json
from multiprocessing import Pool
from pathlib import Path

from .corpus import make_document
from .data import log_uniform, split_verses, stable_random
from .tokenizer import Encoder, answer_text

SHARED: dict = {}


def line(i: int) -> str:
    encode, tokens = SHARED["encode"], SHARED["tokens"]
    r = stable_random("questions", SHARED["part"], i)
    while True:
        document, questions = make_document(r, SHARED["filler"], encode, tokens, log_uniform(r, max(3, min(40, tokens // 100))))
        if questions:
            q = r.choice(questions)
            text = {"document": encode.tokenizer.decode(document), "question": q.text, "answer": answer_text(q.answer, encode.spaced)}
            return json.dumps(text) + "\n"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--filler", required=True)
    p.add_argument("--count", type=int, required=True)
    p.add_argument("--tokens", type=int, default=4096)
    p.add_argument("--evaluation", action="store_true", help="from the verses that no training sees")
    p.add_argument("--to", type=Path, required=True)
    a = p.parse_args()
    SHARED.update(encode=Encoder(a.model / "tokenizer.json", True), tokens=a.tokens, part=a.evaluation,
                  filler=split_verses(a.filler)[1 if a.evaluation else 0])
    with Pool() as pool, open(a.to, "w") as out:
        for text in pool.imap(line, range(a.count), 16):
            out.write(text)


if __name__ == "__main__":
    main()

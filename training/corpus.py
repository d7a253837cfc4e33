"""Synthetic long documents with facts hidden in them, and questions with exact answers.

A document is filler (verses, generated prose or repeated noise) with fact sentences at random
depths, in the manner of RULER's needle tasks. Everything is drawn from one `random.Random`, so a
document is a pure function of its seed, the filler and the tokenizer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from . import words as w

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Question:
    text: str
    answer: str
    task: str


@dataclass(frozen=True)
class Fact:
    """Sentences that keep their order in the document, and what can be asked about them."""

    sentences: list[str]
    questions: list[Question]


# ------------------------------------------------------------------------------------------ filler
NOISE = [
    "The sky is blue. The tree is green. The flower is red. The sun is yellow.",
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.",
]


def read_verses(path: str | Path) -> list[str]:
    """One `reference text` a line, as printed by `bible -f gen1:1-rev22:21` -> the texts."""
    lines = Path(path).read_text(errors="ignore").splitlines()
    return [line.split(" ", 1)[1].strip() for line in lines if " " in line]


def prose(r: random.Random) -> str:
    """One generated sentence that states nothing anybody asks about."""
    kind = r.random()

    def thing() -> str:
        return f"{r.choice(w.ADJECTIVES)} {r.choice(w.NOUNS)}"

    noun, verb, place = r.choice(w.NOUNS), r.choice(w.VERBS), r.choice(w.PREPOSITIONS)
    if kind < 0.35:
        return f"The {thing()} {verb} the {noun} {place} the {thing()}."
    if kind < 0.55:
        return f"{r.choice(w.FIRST_NAMES)} {verb} a {thing()} in {r.choice(w.CITIES)}."
    if kind < 0.70:
        day = f"{r.randint(1, 28)} {r.choice(w.MONTHS)}"
        return f"On {day} the {thing()} {verb} {r.randint(2, 99)} {noun}s."
    if kind < 0.85:
        return (f"Nobody in {r.choice(w.CITIES)} {verb} the {thing()}, "
                f"and the {noun} {r.choice(w.VERBS)} it.")
    return f"A {noun} {place} the {r.choice(w.NOUNS)} {verb} {person(r)}."


class Filler:
    """An endless stream of sentences: noise, prose, consecutive verses, or prose and verses mixed."""

    def __init__(self, verses: list[str]) -> None:
        self.verses = verses

    def stream(self, r: random.Random) -> Iterator[str]:
        kind = r.choices(["noise", "prose", "verse", "mix"], [0.15, 0.35, 0.25, 0.25])[0]
        noise, at = r.choice(NOISE), r.randrange(len(self.verses))
        while True:
            if kind == "noise":
                yield noise
            elif kind == "prose" or (kind == "mix" and r.random() < 0.6):
                yield prose(r)
            else:
                yield self.verses[at % len(self.verses)]
                at += 1


# ------------------------------------------------------------------------------------------- facts
Used = set  # of (kind, value): what the document already speaks of, so that no question is ambiguous
MakeFact = Callable[[random.Random, Used], "Fact | None"]


def digits(r: random.Random, low: int, high: int) -> str:
    """A number of `low` to `high` digits."""
    count = r.randint(low, high)
    return str(r.randint(1, 9)) + "".join(r.choice("0123456789") for _ in range(count - 1))


def person(r: random.Random) -> str:
    return f"{r.choice(w.FIRST_NAMES)} {r.choice(w.LAST_NAMES)}"


def company(r: random.Random) -> str:
    return f"{r.choice(w.COMPANY_NAMES)} {r.choice(w.COMPANY_KINDS)}"


def fresh(r: random.Random, used: Used, make: Callable[[random.Random], str], kind: str) -> str | None:
    """A value of `make` that the document does not hold yet, or None after 20 tries."""
    for _ in range(20):
        value = make(r)
        if (kind, value) not in used:
            used.add((kind, value))
            return value
    return None


def passkey(r: random.Random, used: Used) -> Fact | None:
    if fresh(r, used, lambda _: "the", "passkey") is None:
        return None
    key = digits(r, 5, 12)
    question = "Now, give me the exact number of the pass key. The pass key is"
    return Fact([f"The pass key is {key}. Remember it. The pass key is {key}."],
                [Question(question, f"{key}.", "passkey")])


def numbers(counts: list[float]) -> MakeFact:
    """One number for a key (a needle), or two to four (multi-value), as often as `counts` says."""

    def make(r: random.Random, used: Used) -> Fact | None:
        key = fresh(r, used, lambda r: f"{r.choice(w.ADJECTIVES)}-{r.choice(w.NOUNS)}", "magic")
        if key is None:
            return None
        count = r.choices([1, 2, 3, 4], counts)[0]
        found = [digits(r, 7, 7) for _ in range(count)]
        ask, task = f"What is the special magic number for {key}", "niah"
        if count > 1:
            ask, task = f"What are all the special magic numbers for {key}", "multivalue"
        return Fact([f"One of the special magic numbers for {key} is: {n}." for n in found],
                    [Question(f"{ask} mentioned in the provided text?", f"{', '.join(found)}.", task)])

    return make


magic_numbers = numbers([0.7, 0.12, 0.1, 0.08])


def chains(names: tuple[int, int], letters: tuple[int, int]) -> MakeFact:
    """Chains of assignments: VAR ABC = 12345. VAR XYZ = VAR ABC. Ranges include both ends."""

    def make(r: random.Random, used: Used) -> Fact | None:
        value = fresh(r, used, lambda r: digits(r, 5, 5), "value")
        found: list[str] = []
        for _ in range(r.randint(*names)):
            name = fresh(r, used, lambda r: "".join(
                r.choice(ascii_uppercase) for _ in range(length_of(r))), "variable")
            if name is not None:
                found.append(name)
        if value is None or len(found) < 2:
            return None
        handed = [f"VAR {b} = VAR {a}." for a, b in zip(found, found[1:])]
        ask = f"Find all variables that are assigned the value {value} in the text above."
        return Fact([f"VAR {found[0]} = {value}.", *handed],
                    [Question(ask, f"{', '.join(found)}.", "vt")])

    def length_of(r: random.Random) -> int:  # draws nothing where there is no choice
        return letters[0] if letters[0] == letters[1] else r.randint(*letters)

    return make


variables = chains(names=(2, 4), letters=(3, 3))


def workplace(r: random.Random, used: Used) -> Fact | None:
    """Where somebody works; in four of ten also whose manager that is, for a question of two hops."""
    name = fresh(r, used, person, "person")
    if name is None:
        return None
    city = r.choice(w.CITIES)
    sentences = [f"{name} works in {city}."]
    if r.random() < 0.4 and (report := fresh(r, used, person, "person")) is not None:
        sentences.append(f"The manager of {report} is {name}.")
        if r.random() < 0.5:
            sentences.reverse()
        return Fact(sentences, [
            Question(f"Who is the manager of {report}?", f"{name}.", "fact"),
            Question(f"Where does the manager of {report} work?", f"{city}.", "twohop")])
    return Fact(sentences, [Question(f"Where does {name} work?", f"{city}.", "fact")])


def invoice(r: random.Random, used: Used) -> Fact | None:
    number = fresh(r, used, lambda r: digits(r, 5, 5), "invoice")
    if number is None:
        return None
    customer, amount = company(r), str(r.randint(100, 99999))
    return Fact([f"Invoice {number} was issued to {customer} for {amount} dollars."], [
        Question(f"Who was invoice {number} issued to?", f"{customer}.", "fact"),
        Question(f"What was the amount of invoice {number}?", f"{amount} dollars.", "fact")])


def project(r: random.Random, used: Used) -> Fact | None:
    name = fresh(r, used, lambda r: f"{r.choice(w.ADJECTIVES)} {r.choice(w.NOUNS)}", "project")
    if name is None:
        return None
    leader = person(r)
    return Fact([f"The {name} project is led by {leader}."],
                [Question(f"Who leads the {name} project?", f"{leader}.", "fact")])


def access_code(r: random.Random, used: Used) -> Fact | None:
    city = fresh(r, used, lambda r: r.choice(w.CITIES), "code")
    if city is None:
        return None
    code = digits(r, 4, 8)
    return Fact([f"The access code for the {city} office is {code}."],
                [Question(f"What is the access code for the {city} office?", f"{code}.", "fact")])


def meeting(r: random.Random, used: Used) -> Fact | None:
    partner = fresh(r, used, company, "meeting")
    if partner is None:
        return None
    day = f"{r.randint(1, 28)} {r.choice(w.MONTHS)}"
    return Fact([f"The meeting with {partner} takes place on {day}."],
                [Question(f"When does the meeting with {partner} take place?", f"{day}.", "fact")])


def ticket(r: random.Random, used: Used) -> Fact | None:
    number = fresh(r, used, lambda r: digits(r, 4, 6), "ticket")
    if number is None:
        return None
    closer, reason = person(r), r.choice(w.REASONS)
    return Fact([f"Ticket {number} was closed by {closer} because of {reason}."], [
        Question(f"Why was ticket {number} closed?", f"{reason}.", "fact"),
        Question(f"Who closed ticket {number}?", f"{closer}.", "fact")])


MIX: dict[MakeFact, float] = {
    magic_numbers: 3, variables: 2, workplace: 2, invoice: 1.5, project: 1,
    access_code: 1, meeting: 1, ticket: 1.5, passkey: 0.7,
}
# What runs 1 and 2 were bad at has more weight, and chains are as long as RULER's.
TRAINING_MIX: dict[MakeFact, float] = {
    numbers([0.5, 0.15, 0.15, 0.2]): 4, chains(names=(2, 5), letters=(3, 5)): 3, workplace: 4,
    invoice: 1.5, project: 1.5, access_code: 1, meeting: 1.5, ticket: 1.5, passkey: 0.7,
}


# --------------------------------------------------------------------------------------- documents
def make_document(
    r: random.Random, filler: Filler, encode: Encode, n_tokens: int, n_facts: int,
    mix: dict[MakeFact, float] = MIX,
) -> tuple[list[int], list[Question]]:
    """-> (token ids of the document, its questions).

    Exactly `n_tokens` ids, with every fact whole, unless the facts alone are longer. `mix`: kinds
    of facts and how often each is drawn.
    """
    makers, weights = list(mix), list(mix.values())
    used: Used = set()
    placed: list[tuple[float, str]] = []  # (depth, sentence)
    questions: list[Question] = []
    for _ in range(n_facts):
        fact = r.choices(makers, weights)[0](r, used)
        if fact is None:
            continue
        depths = sorted(r.random() for _ in fact.sentences)
        placed += zip(depths, fact.sentences)
        questions += fact.questions
    placed.sort()
    facts = [(depth, encode(" " + sentence)) for depth, sentence in placed]
    budget = n_tokens - sum(len(ids) for _, ids in facts)

    out: list[int] = []
    filled, at = 0, 0  # filler tokens and facts so far
    stream = filler.stream(r)
    while filled < budget:
        while at < len(facts) and facts[at][0] * budget <= filled:
            out += facts[at][1]
            at += 1
        ids = encode(" " + next(stream))[: budget - filled]
        out += ids
        filled += len(ids)
    for _, ids in facts[at:]:
        out += ids
    return out, questions

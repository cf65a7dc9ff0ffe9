"""Synthetic sentences with tagged names: the packaged sample of token classification.

No package with annotated names under a free licence was found, so these sentences are made from templates and lists of
names, by a generator with a fixed seed: the same on every machine. They are no natural text, and a score on them says
nothing about natural text. They are made so that neither memorized names nor single words suffice:

    ambiguous   many words are a person, a place, a part of an organisation or an ordinary word: Paris Mills,
                in Paris, Paris Bank; Mark said, on the mark
    unseen      40 % of the names and a quarter of the templates occur in validation and test only
"""

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.domain.data.dataset import Split, TaggedRow, item_name
from app.domain.data.tagging import OUTSIDE

TAGS = ["B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", OUTSIDE]
SIZES: dict[Split, int] = {"train": 800, "validation": 150, "test": 600}
UNSEEN_NAMES, UNSEEN_TEMPLATES = 0.4, 0.25
"""Shares of the names and of the templates that training sentences lack."""

_FIRST = """
    Ada Alma Amos Anton Austin Bella Bill Boris Carla Chase Clara Dora Drew Elena Emil Faith Florence Frank Georgia
    Grace Grant Hanna Hope Hugo Ingrid Ivan Jack Jordan Joy Kira Lena Leo Lincoln Lola Madison Marco Mark May Mila
    Milan Nina Oscar Otto Paris Penny Pearl Petra Ray Rich Rosa Rose Ruth Sandy Savannah Sofia Stella Sydney Tara
    Vera Victoria Vienna Will
"""
_LAST = """
    Adler Bach Baker Banks Bath Becker Berlin Bishop Bloom Brook Brown Carter Cook Costa Cross Dale Day Field Fisher
    Ford Fox Frost Gold Green Hall Hill Holland Hunt Ivanov Jackson King Koch Lake Lane Lima London Long Marsh Mason
    Mills Moss Novak Page Park Petrov Pope Price Reed Reading Rivers Rome Rossi Santos Singer Stone Street Swift
    Todorov Turner Underwood Valencia Walker Washington Waters West White Winter Wolf Wood York Young
"""
_PLACES = """
    Austin Bath Berlin Boston Brno Burgas Cork Dallas Dover Florence Georgia Ghent Graz Hastings Holland Houston
    Jackson Jordan Kiel Leeds Lille Lima Lincoln London Lyon Madison Mainz Malta Milan Mobile Nice Oslo Paris Perth
    Phoenix Plovdiv Porto Reading Riga Rome Savannah Siena Sofia Sydney Tallinn Tours Turin Turkey Valencia Varna
    Verona Victoria Vienna Warsaw Washington Wells York Zagreb Zurich
"""
_AROUND = ["Lake {}", "New {}", "{} Bay", "North {}", "{} Island", "Port {}", "East {}", "{} Springs"]
_COMPANIES = [
    *("{} Bank", "{} Motors", "{} and Sons", "{} Records", "Bank of {}", "{} Press", "{} United", "The {} Group"),
    *("University of {}", "{} Museum", "{} Airlines", "{} Foods", "Royal {} Society", "{} Times", "{} Records"),
]
TEMPLATES = Path(__file__).with_name("tag_templates.txt")
"""One sentence per line, in which {PER}, {LOC} and {ORG} stand for names."""
_SLOT = re.compile(r"\{(PER|LOC|ORG)\}")


def sentences() -> list[TaggedRow]:
    """The rows of every split, each sentence once."""
    draw = random.Random(20)
    every = [names.split() for names in (_FIRST, _LAST, _PLACES)]
    seen = [draw.sample(names, round((1 - UNSEEN_NAMES) * len(names))) for names in every]
    templates = TEMPLATES.read_text(encoding="utf-8").splitlines()
    draw.shuffle(templates)
    known = templates[round(UNSEEN_TEMPLATES * len(templates)) :]
    rows: dict[str, TaggedRow] = {}
    for split, size in SIZES.items():
        names, lines = (seen, known) if split == "train" else (every, templates)
        fresh = 0
        while fresh < size:
            words, tags = _filled(draw, draw.choice(lines), names)
            item = item_name(" ".join(words))
            if item not in rows:
                rows[item] = TaggedRow(item, split, words, [TAGS.index(tag) for tag in tags])
                fresh += 1
    return list(rows.values())


def _filled(draw: random.Random, template: str, names: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """Words and tags of a sentence."""
    words: list[str] = []
    tags: list[str] = []
    for part in template.split():
        slot = _SLOT.fullmatch(part)
        named = list(_name(draw, slot[1], *names)) if slot else [part]
        words += named
        tags += [f"{'B' if place == 0 else 'I'}-{slot[1]}" if slot else OUTSIDE for place in range(len(named))]
    return words, tags


def _name(
    draw: random.Random, kind: str, first: Sequence[str], last: Sequence[str], places: Sequence[str]
) -> Iterator[str]:
    """The words of a name."""
    if kind == "PER":
        form = draw.choice(("{first} {last}", "{first} {last}", "{first}", "{last}"))
        named = form.format(first=draw.choice(first), last=draw.choice(last))
    elif kind == "LOC":
        place = draw.choice(places)
        named = draw.choice(_AROUND).format(place) if draw.random() < 0.25 else place
    else:
        named = draw.choice(_COMPANIES).format(draw.choice((*last, *places)))
    yield from named.split()

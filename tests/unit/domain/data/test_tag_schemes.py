"""Schemes of tags: which one rows are of, and their entities in IOB2."""

import random
from collections.abc import Sequence

import pytest

from app.domain.data.tag_schemes import Scheme, SchemeEvidence, to_iob2
from app.domain.data.tagging import Entity, entities

MARKS = {"IOBES": ("E", "S"), "BILOU": ("L", "U")}


def scheme_of(*rows: Sequence[str]) -> Scheme | None:
    evidence = SchemeEvidence()
    for row in rows:
        evidence.add(row)
    return evidence.scheme


def written(found: list[Entity], words: int, scheme: str) -> list[str]:
    """Entities as tags, in the way in which seqeval reads them."""
    tags, before = ["O"] * words, Entity("", 0, 0)
    for kind, start, end in found:
        for place in range(start, end):
            first, last = place == start, place == end - 1
            prefix = "B" if first else "I"
            if scheme == "IOB1":
                prefix = "B" if first and before.kind == kind and before.end == start else "I"
            elif scheme in MARKS:
                ends, single = MARKS[scheme]
                prefix = single if first and last else ends if last else prefix
            tags[place] = f"{prefix}-{kind}"
        before = Entity(kind, start, end)
    return tags


def drawn(draw: random.Random) -> tuple[list[Entity], int]:
    words, found, place = draw.randint(1, 9), list[Entity](), 0
    while place < words:
        end = place + 1
        if draw.random() < 0.5:
            end = min(place + draw.randint(1, 3), words)
            found.append(Entity(draw.choice(["PER", "LOC"]), place, end))
        place = end
    return found, words


@pytest.mark.parametrize("scheme", ["IOB1", "IOBES", "BILOU"])
def test_random_rows_keep_their_entities(scheme: Scheme) -> None:
    """seqeval 1.2.2 reads the same entities from tags that are written so, in each of the four schemes."""
    rows = [drawn(draw) for draw in [random.Random(11)] for _row in range(300)]
    tags = [written(*row, scheme) for row in rows]
    assert scheme_of(*tags) == scheme
    converted = [to_iob2(row, scheme) for row in tags]
    assert converted == [written(*row, "IOB2") for row in rows] != tags
    assert [entities(row) for row in converted] == [found for found, _words in rows]
    assert scheme_of(*converted) is None, "IOB2 stays"


@pytest.mark.parametrize(
    ("rows", "scheme"),
    [
        ([["I-PER", "B-PER", "B-PER"]], "IOB1"),
        ([["I-PER", "I-LOC", "O"], ["O"]], "IOB1"),
        ([["B-PER", "O"], ["I-PER"]], None),
        ([["B-PER", "I-LOC"]], None),
        ([["B-PER", "I-PER", "O"]], None),
        ([["S-PER", "O"]], "IOBES"),
        ([["U-PER", "B-PER", "I-PER", "L-PER"]], "BILOU"),
        ([["B-PER", "I-PER"], ["S-PER"]], None),
        ([["B-PER", "L-LOC"]], None),
        ([["B-PER", "E-PER"], ["U-PER"]], None),
        ([["I-PER", "E-PER", "O"]], None),
        ([["S-bahn", "E-mail"]], None),
        ([["NOUN", "VERB", "O"]], None),
        ([["B-PER", "E-PER"], ["_"]], None),
        ([["B-PER", "E-PER"], ["B"]], None),
        ([["O", "O"], []], None),
        ([], None),
    ],
)
def test_a_scheme_is_known_if_every_row_is_valid_in_it_and_in_no_other(
    rows: list[list[str]], scheme: Scheme | None
) -> None:
    assert scheme_of(*rows) == scheme

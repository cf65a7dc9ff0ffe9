"""Tags of words: entities, their F1, and the schemes in which they are written."""

import random
from collections.abc import Sequence

import pytest

from app.domain.data.tag_schemes import Scheme, SchemeEvidence, to_iob2
from app.domain.data.tagging import (
    Entity,
    Hits,
    continues_nothing,
    entities,
    in_brackets,
    joined_spans,
    other_scheme,
    word_spans,
)


def test_b_begins_an_entity_i_continues_one_and_plain_tags_are_entities_of_a_word() -> None:
    tags = ["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "I-PER", "", "I-LOC"]
    assert entities(tags) == [Entity("PER", 0, 2), Entity("LOC", 3, 4), Entity("LOC", 4, 5)]
    true, predicted = ["NOUN", "VERB", "NOUN", "DET"], ["NOUN", "NOUN", "NOUN", "DET"]
    assert entities(["NOUN", "NOUN"]) == [Entity("NOUN", 0, 1), Entity("NOUN", 1, 2)]
    assert Hits.of(true, predicted).f1(of_none=1.0) == 0.75


# What seqeval 1.2.2 gives: f1_score(true, predicted, mode="strict", scheme=IOB2)
SEQEVAL = [
    ([["B-PER", "I-PER", "O", "O", "B-LOC", "I-LOC", "O"]], [["B-PER", "I-PER", "O", "O", "B-LOC", "O", "O"]], 0.5),
    ([["B-PER", "O", "B-LOC"], ["O", "O"]], [["B-PER", "I-PER", "B-LOC"], ["B-LOC", "O"]], 0.4),
    ([["B-PER", "B-PER", "I-PER"]], [["B-PER", "I-PER", "I-PER"]], 0.0),
    ([["B-PER", "I-PER", "O"]], [["I-PER", "I-PER", "O"]], 0.0),
    ([["B-PER", "I-LOC", "O"]], [["B-PER", "O", "O"]], 1.0),
    (
        [["O", "B-ORG", "I-ORG", "I-ORG"], ["B-LOC", "O", "B-PER", "I-PER"], ["O", "O", "O", "O"]],
        [["O", "B-ORG", "I-ORG", "I-ORG"], ["B-PER", "O", "B-PER", "I-PER"], ["O", "I-PER", "O", "O"]],
        2 / 3,
    ),
    ([["O", "O"]], [["O", "O"]], 0.0),
]


def together(true: list[list[str]], predicted: list[list[str]]) -> float:
    counts = [Hits.of(own, others) for own, others in zip(true, predicted, strict=True)]
    return Hits(*(sum(each) for each in zip(*counts, strict=True))).f1(of_none=0.0)


@pytest.mark.parametrize(("true", "predicted", "f1"), SEQEVAL)
def test_the_f1_of_all_items_is_that_of_seqeval(true: list[list[str]], predicted: list[list[str]], f1: float) -> None:
    assert together(true, predicted) == pytest.approx(f1)


def test_the_f1_of_two_hundred_random_items_is_that_of_seqeval() -> None:
    draw, tags = random.Random(7), ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    true, predicted = [], []
    for _place in range(200):
        true.append([draw.choice(tags) for _word in range(draw.randint(1, 12))])
        predicted.append([tag if draw.random() < 0.7 else draw.choice(tags) for tag in true[-1]])
    assert together(true, predicted) == pytest.approx(0.7090069284064664)


def test_an_item_without_entities_is_right_if_none_is_predicted() -> None:
    assert Hits.of(["O", "O"], ["O", "O"]).f1(of_none=1.0) == 1
    assert Hits.of(["O", "O"], ["O", "B-PER"]).f1(of_none=1.0) == 0
    assert Hits.of(["B-PER", "O"], ["", ""]).f1(of_none=1.0) == 0


@pytest.mark.parametrize(
    ("tags", "broken"),
    [
        (["B-PER", "I-PER", "I-PER"], False),
        (["NOUN", "VERB"], False),
        (["I-PER"], True),
        (["B-PER", "O", "I-PER"], True),
        (["B-LOC", "I-PER"], True),
    ],
)
def test_an_i_that_continues_nothing_is_no_iob2(tags: list[str], broken: bool) -> None:
    assert continues_nothing(tags) is broken


def test_other_schemes_are_told_by_their_prefixes_beside_b_and_i() -> None:
    assert other_scheme(["B-PER", "I-PER", "E-PER", "S-PER", "O"]) == ["E-PER", "S-PER"]
    assert other_scheme(["B-PER", "I-PER", "O"]) == other_scheme(["E-mail", "U-turn", "NOUN"]) == []


@pytest.mark.parametrize(
    ("tags", "odd"),
    [
        (["B-PER", "I-PER", "_"], ["_"]),
        (["B-PER", "0", "o"], ["0", "o"]),
        (["B-PER", "I-PER", "OTHER"], ["OTHER"]),
        (["B-PER", "O", "M-PER", "B", "I-"], ["B", "I-", "M-PER"]),
        (["B_PER", "I_PER", "O"], ["B_PER", "I_PER"]),
        (["PER-B", "PER-I", "O"], ["PER-B", "PER-I"]),
        (["B", "I", "O"], ["B", "I"]),
        (["S-PER", "O"], ["S-PER"]),
        (["O", "NOUN", "I"], []),
        (["A", "B", "I", "N"], []),
    ],
)
def test_beside_marks_of_entities_every_other_tag_but_o_is_of_another_scheme(tags: list[str], odd: list[str]) -> None:
    assert other_scheme(tags) == odd


def test_entities_are_shown_in_brackets_and_plain_tags_behind_their_word() -> None:
    words = ["Ada", "Lovelace", "saw", "New", "York", "."]
    assert (
        in_brackets(words, ["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"]) == "[PER Ada Lovelace] saw [LOC New York] ."
    )
    assert in_brackets(["cats", "sleep"], ["NOUN", ""]) == "cats/NOUN sleep"


def test_words_of_a_text_have_their_places_also_with_emoji() -> None:
    text = "(Ada's U.S. visa cost $1,000)…  Ну, नमस्ते!"
    spans = list(word_spans(text))
    words = ["(", "Ada's", "U.S", ".", "visa", "cost", "$", "1,000", ")", "…", "Ну", ",", "नमस्ते", "!"]
    assert [text[span.start : span.end] for span in spans] == words
    joined = " ".join(words)
    assert [joined[span.start : span.end] for span in joined_spans(words)] == words
    assert list(word_spans("  ")) == []
    text = "👩‍👩‍👧 обича 🇧🇬🇫🇷! 👍🏽❤️ ☀️, 1️⃣ cafe\u0301."
    words = ["👩‍👩‍👧", "обича", "🇧🇬", "🇫🇷", "!", "👍🏽", "❤️", "☀️", ",", "1️⃣", "cafe\u0301", "."]
    assert [text[span.start : span.end] for span in word_spans(text)] == words


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
def test_a_scheme_is_the_only_one_that_fits_every_row(rows: list[list[str]], scheme: Scheme | None) -> None:
    assert scheme_of(*rows) == scheme

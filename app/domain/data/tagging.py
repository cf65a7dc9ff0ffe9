"""Tags of words, and the entities that they mark.

    words   Ada    Lovelace  lives  in  New    York   .
    IOB2    B-PER  I-PER     O      O   B-LOC  I-LOC  O       Ada Lovelace (PER), New York (LOC)

B-TYPE begins an entity, I-TYPE continues one of that type, O is outside of any (IOB2: Tjong Kim Sang & Veenstra 1999,
arXiv cs/9907006). An I- tag that continues nothing marks no entity, as in the strict mode of seqeval. A tag without a
prefix (a part of speech) is an entity of one word, so with such tags the F1 of entities is the share of right words.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

OUTSIDE = "O"
UNREAD = -1
"""The tag of a word that a model did not read, because the text was truncated: it counts as wrong."""
JOINER = "\u200d"
SKIN_TONES = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
FLAG_LETTERS = frozenset(map(chr, range(0x1F1E6, 0x1F200)))
_IOB2 = re.compile(r"O|[BI]-.+")
_MARKED = re.compile(r"[BIESLUM](?:[-_].+)?|.+[-_][BIESLUM]")
"""Places in an entity, in any scheme: `S-PER`, `B_PER`, `PER-B`, a bare `B`."""


class Span(NamedTuple):
    """Characters of a text, from `start` to before `end`."""

    start: int
    end: int


class Entity(NamedTuple):
    """An entity of the words from `start` to before `end`."""

    kind: str
    start: int
    end: int


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities that tags mark, in order; an empty tag is outside of any."""
    found: list[Entity] = []
    kind, start = "", -1  # of the entity that is open, if `start` is not negative
    for place, tag in enumerate((*tags, OUTSIDE)):
        prefix, dash, name = tag.partition("-")
        if start >= 0 and dash and prefix == "I" and name == kind:
            continue
        if start >= 0:
            found.append(Entity(kind, start, place))
            start = -1
        if dash and prefix == "B":
            kind, start = name, place
        elif tag not in ("", OUTSIDE) and not (dash and prefix == "I"):
            found.append(Entity(tag, place, place + 1))
    return found


def word_spans(text: str) -> Iterator[Span]:
    """Where the words of a text are: between white space, with each punctuation mark or symbol at an edge a word of its
    own, as in most corpora of tags. `(Ada's U.S. visa)` has the words `( Ada's U.S . visa )`."""
    for piece in re.finditer(r"\S+", text):
        characters = list(_characters(text, *piece.span()))
        first, last = 0, len(characters)
        while first < last and _is_mark(text[characters[first].start]):
            yield characters[first]
            first += 1
        while last > first and _is_mark(text[characters[last - 1].start]):
            last -= 1
        if last > first:
            yield Span(characters[first].start, characters[last - 1].end)
        yield from characters[last:]


def _characters(text: str, start: int, end: int) -> Iterator[Span]:
    """Each character as a reader sees it: with its combining marks and emoji modifiers, with what a zero width joiner
    adds, and the two letters of a flag together (after Unicode's grapheme clusters, UAX 29)."""
    while start < end:
        place = start + 1
        if place < end and text[start] in FLAG_LETTERS and text[place] in FLAG_LETTERS:
            place += 1
        while place < end and (text[place - 1] == JOINER or _extends(text[place])):
            place += 1
        yield Span(start, place)
        start = place


def joined_spans(words: Sequence[str]) -> list[Span]:
    """Where words are in the text that has a space between them."""
    spans, start = [], 0
    for word in words:
        spans.append(Span(start, start + len(word)))
        start += len(word) + 1
    return spans


def _extends(character: str) -> bool:
    return character == JOINER or character in SKIN_TONES or unicodedata.category(character)[0] == "M"


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"


def continues_nothing(tags: Sequence[str]) -> bool:
    """Whether an I- tag follows neither B- nor I- of its type: no IOB2."""
    before = ["", *tags]
    return any(
        tag.startswith("I-") and last not in (tag, f"B-{tag[2:]}") for last, tag in zip(before, tags, strict=False)
    )


def other_scheme(tags: Iterable[str]) -> list[str]:
    """The tags of a dataset that are no IOB2 although it marks where entities begin: of IOBES or BILOU, another word
    for outside (`_`, `OTHER`), a bare `B`. Empty for IOB2 and for plain tags."""
    names = sorted(tags)
    plain = [tag for tag in names if not _IOB2.fullmatch(tag)]
    inside = [tag for tag in names if tag != OUTSIDE]
    marks = any(tag.startswith(("B-", "I-")) for tag in names)
    marks |= OUTSIDE in names and all(_MARKED.fullmatch(tag) for tag in inside)
    return plain if marks else []


class Hits(NamedTuple):
    """Entities of some items: those predicted rightly, the true ones, and the predicted ones."""

    right: int
    true: int
    predicted: int

    @classmethod
    def of(cls, true: Sequence[str], predicted: Sequence[str]) -> "Hits":
        own, others = set(entities(true)), set(entities(predicted))
        return cls(len(own & others), len(own), len(others))

    def f1(self, of_none: float) -> float:
        """2·right / (true + predicted); `of_none` if there are neither true nor predicted ones."""
        both = self.true + self.predicted
        return 2 * self.right / both if both else of_none


def in_brackets(words: Sequence[str], tags: Sequence[str]) -> str:
    """Words with their entities in one line: `[PER Ada Lovelace] lives in [LOC New York] .`; with plain tags
    `Ada/PROPN lives/VERB`."""
    starts = {entity.start: entity for entity in entities(tags)}
    parts, place = [], 0
    while place < len(words):
        entity = starts.get(place)
        if entity is None:
            parts.append(words[place])
            place += 1
        elif tags[place] == entity.kind:
            parts.append(f"{words[place]}/{entity.kind}")
            place += 1
        else:
            parts.append(f"[{entity.kind} {' '.join(words[entity.start : entity.end])}]")
            place = entity.end
    return " ".join(parts)

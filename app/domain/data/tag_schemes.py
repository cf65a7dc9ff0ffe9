"""Schemes in which tags mark where entities begin and end, and their conversion to IOB2.

          Ada    Lovelace  Paris  York   and  Lima
    IOB2  B-PER  I-PER     B-LOC  B-LOC  O    B-LOC
    IOB1  I-PER  I-PER     I-LOC  B-LOC  O    I-LOC       B- only directly after an entity of the same type
    IOBES B-PER  E-PER     S-LOC  S-LOC  O    S-LOC       E- ends an entity, S- is one of a single word
    BILOU B-PER  L-PER     U-LOC  U-LOC  O    U-LOC       the same, with L- (last) and U- (unit)

IOB1: Ramshaw & Marcus 1995, arXiv cmp-lg/9505040; BILOU: Ratinov & Roth 2009, W09-1119. The names and the entities are
those of seqeval's schemes.
"""

from collections.abc import Sequence
from typing import Literal

from app.domain.data.tagging import OUTSIDE

Scheme = Literal["IOB1", "IOBES", "BILOU"]
_MARKS: dict[Scheme, tuple[str, str]] = {"IOBES": ("E", "S"), "BILOU": ("L", "U")}
"""The prefixes for the last word of an entity and for one of a single word."""
_IOB2 = {"E": "I", "L": "I", "S": "B", "U": "B"}


class SchemeEvidence:
    """What the rows of a dataset say about the scheme of their tags."""

    def __init__(self) -> None:
        self._prefixes: set[str] = set()
        self._outside = False
        self._begins_inside = False
        """An I- tag begins an entity."""
        self._begins_alone = False
        """A B- tag follows no entity of the same type, which it does in every scheme but IOB1."""
        self._whole = True
        """Every entity that E-, S-, L- or U- could mark ends before another tag."""
        self.possible = True
        """Every tag so far is O or has the prefix of a scheme."""

    def add(self, tags: Sequence[str]) -> bool:
        """Take a row into account. False if it, or one before, has a tag that is neither O nor of a scheme."""
        before = ("", "")
        for tag in (*tags, OUTSIDE):
            prefix, kind = _parts(tag)
            if tag != OUTSIDE and not kind:
                self.possible = False
                return False
            after_same = before[1] == kind and before[0] in ("B", "I")
            if prefix in ("I", "E", "L"):
                self._begins_inside |= prefix == "I" and not after_same
                self._whole &= after_same
            else:
                self._whole &= before[0] not in ("B", "I")
                self._begins_alone |= prefix == "B" and not after_same
            before = prefix, kind
        self._outside |= OUTSIDE in tags
        self._prefixes.update(_parts(tag)[0] for tag in tags)
        return self.possible

    @property
    def scheme(self) -> Scheme | None:
        """The scheme in which all rows are valid; None for IOB2, for plain tags, and for tags that several schemes or
        none explain."""
        prefixes = self._prefixes - {""}
        if not self.possible or not prefixes:
            return None
        if prefixes <= {"B", "I"}:
            return "IOB1" if self._begins_inside and not self._begins_alone else None
        marked = self._outside or bool(prefixes & {"B", "I"})  # else they may be words, as in E-mail
        for scheme, (last, single) in _MARKS.items():
            begins = prefixes & {"B", single}
            if prefixes <= {"B", "I", last, single} and begins and self._whole and marked:
                return scheme
        return None


def to_iob2(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """The tags of a row in IOB2."""
    if scheme != "IOB1":
        return [f"{_IOB2.get(tag[0], tag[0])}{tag[1:]}" if _parts(tag)[1] else tag for tag in tags]
    before = ["", *tags]
    begins = (
        tag.startswith("I-") and last not in (tag, f"B-{tag[2:]}") for tag, last in zip(tags, before, strict=False)
    )
    return [f"B{tag[1:]}" if new else tag for tag, new in zip(tags, begins, strict=True)]


def _parts(tag: str) -> tuple[str, str]:
    """Prefix and type; both empty for a tag without the prefix of a scheme, O among them."""
    prefix, dash, kind = tag.partition("-")
    return (prefix, kind) if dash and kind and prefix in ("B", "I", *_IOB2) else ("", "")

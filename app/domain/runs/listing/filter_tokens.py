"""The words of a filter: names, numbers, quoted texts, times and signs, each with its place."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from app.domain.errors import Invalid, SyntaxFieldError
from app.domain.messages import Message, _

LONGEST = 1000
"""Characters of a filter."""
KEYWORDS = ("and", "or", "not", "in")

WordKind = Literal["name", "keyword", "text", "number", "time", "sign", "end"]
_PATTERN = re.compile(
    r"""(?P<space>\s+)
    |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<time>\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:\d\d)?)?)
    |(?P<number>-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<name>[^\W\d][\w-]*)
    |(?P<sign>!=|<=|>=|==|[=<>~(),%])""",
    re.VERBOSE,
)


class FilterError(Invalid):
    """A filter that cannot be read: where, why, and what was expected. `column` counts from 1."""

    def __init__(self, column: int, message: Message, remedy: Message) -> None:
        error = SyntaxFieldError("filter", message, remedy, column=column)
        super().__init__(_("%(error)s (column %(column)s of the filter)", error=message, column=column), [error])
        self.column = column
        self.what = message
        self.remedy = remedy


@dataclass(frozen=True)
class Word:
    """A word of a filter as it was written; `column` is where it begins, from 1."""

    kind: WordKind
    written: str
    column: int

    @property
    def shown(self) -> str:
        """For a sentence."""
        return "the end" if self.kind == "end" else f"`{self.written}`"


def words(text: str) -> list[Word]:
    """Cut a filter into words, the last of them its end. Raises FilterError."""
    if len(text) > LONGEST:
        raise FilterError(LONGEST + 1, _("A filter has at most %(most)s characters", most=LONGEST), _("Shorten it"))
    tokens: list[Word] = []
    place = 0
    while place < len(text):
        match = _PATTERN.match(text, place)
        if match is None:
            raise _unreadable(text, place)
        if match.lastgroup != "space":
            tokens.append(_word(match, text))
        place = match.end()
    return [*tokens, Word("end", "", len(text) + 1)]


def _word(match: re.Match[str], text: str) -> Word:
    written, place = match.group(), match.start()
    bad = next((n for n, c in enumerate(written) if not c.isprintable()), None)
    if bad is not None:
        raise _unreadable(text, place + bad)
    kind: WordKind = match.lastgroup  # type: ignore[assignment]  # the pattern's groups are kinds
    if kind == "name" and written.lower() in KEYWORDS:
        kind, written = "keyword", written.lower()
    return Word(kind, written, place + 1)


def _unreadable(text: str, place: int) -> FilterError:
    sign = text[place]
    if sign in "\"'":
        return FilterError(place + 1, _("A quoted string is not closed"), _("Close it with %(sign)s", sign=sign))
    shown = f"`{sign}`" if sign.isprintable() else _("the character U+%(code)04X", code=ord(sign))
    remedies = {"&": _("Write and"), "|": _("Write or"), "!": _("Write not, or !=")}
    remedy = remedies.get(sign, _("Remove it, or put it in quotes"))
    return FilterError(place + 1, _("%(shown)s is not valid here", shown=shown), remedy)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, or nothing."""
    return next(iter(get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)), "")

"""Numbers as people type them into a form or an address.

0.5    0,5              a decimal point or a decimal comma
1 000  1,000,000        thousands in groups, with spaces, or where no decimal comma can be meant
1,234.5  1.234,5        both signs: the last one is the decimal sign
1,000                   ambiguous, one or a thousand: rejected
"""

import re

from app.domain.messages import Message, _

_SPACES = re.compile(r"(?<=\d)[ \N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}'_](?=\d{3}(?!\d))")
_AMBIGUOUS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_COMMA_GROUPS = re.compile(r"[+-]?\d{1,3}(?:(?:,\d{3})+\.\d*|(?:,\d{3}){2,})")
_POINT_GROUPS = re.compile(r"[+-]?\d{1,3}(?:(?:\.\d{3})+,\d*|(?:\.\d{3}){2,})")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?", re.ASCII)


class NotANumber(ValueError):
    """The text is no number. The message is a sentence for the person who typed it."""

    def __init__(self, message: Message) -> None:
        super().__init__(message)
        self.message = message


class AmbiguousNumber(NotANumber):
    """The text may mean two numbers."""


def plain_number(text: str) -> str:
    """The number with a decimal point and without grouped thousands: `0,5` is `0.5`. Raises NotANumber."""
    plain = _SPACES.sub("", text.strip().replace("\N{MINUS SIGN}", "-"))
    if _AMBIGUOUS.fullmatch(plain):
        raise AmbiguousNumber(
            _(
                "%(text)s may mean %(thousands)s or %(decimal)s: write one of these",
                text=plain,
                thousands=plain.replace(",", ""),
                decimal=plain.replace(",", "."),
            )
        )
    if _COMMA_GROUPS.fullmatch(plain):
        plain = plain.replace(",", "")
    elif _POINT_GROUPS.fullmatch(plain):
        plain = plain.replace(".", "").replace(",", ".")
    elif plain.count(",") == 1 and "." not in plain:
        plain = plain.replace(",", ".")
    if not _NUMBER.fullmatch(plain):
        raise NotANumber(_("Must be a number, such as 0.01 or 2e-5"))
    return plain


def parse_number(text: str) -> float:
    """The number that was typed. Raises NotANumber."""
    return float(plain_number(text))


def parse_whole(text: str) -> int:
    """The whole number that was typed. Raises NotANumber."""
    plain = plain_number(text)
    if not plain.lstrip("+-").isdecimal() or len(plain) > 18:
        raise NotANumber(_("Must be a whole number"))
    return int(plain)

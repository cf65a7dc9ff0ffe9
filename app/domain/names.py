"""Texts that people give, and how a validator of a spec says what is wrong with one field of it.

A text that is kept is of one of these types, or says itself what it may hold; so is the key of an entry:
`dict[Key, Line]`.
"""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError


def legible(text: str) -> str:
    """A text as it may be shown: what cannot be printed, and half characters, which no encoding has, are replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def wrong(path: str, message: str, remedy: str) -> PydanticCustomError:
    """An error for a validator to raise: `path` is below what is validated; what is wrong, and what to do."""
    told = {"path": legible(path), "message": message, "remedy": remedy}  # pydantic cannot tell half characters
    return PydanticCustomError("wrong", "{message}", told)


def _printable(text: str) -> str:
    if not text.isprintable():
        bad = next(c for c in text if not c.isprintable())
        raise wrong("", f"the character U+{ord(bad):04X} cannot be printed", "remove it, or write a plain space")
    return text


def _storable(text: str) -> str:
    bad = next((c for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), None)
    if bad is not None:
        raise wrong("", f"the character U+{ord(bad):04X} cannot be kept", "remove it")
    return text


Line = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_printable)]
"""One line: no breaks, no NUL (PostgreSQL keeps none), no marks that turn the direction of a text; it may be empty."""
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_printable)]
"""A line that says something."""
Verbatim = Annotated[str, AfterValidator(_storable)]
"""A text as it came, with its spaces and breaks, but for what cannot be kept: PostgreSQL has no NUL, UTF-8 no half
characters."""
Key = Annotated[Name, Field(max_length=200)]
"""By what an entry of an object is known."""
OF_KEY = "[key]"
"""Pydantic puts it behind a key that is wrong, as if it were a field there."""

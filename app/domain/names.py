"""Texts that people give, and how a validator of a spec says what is wrong with one field of it."""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints
from pydantic_core import PydanticCustomError


def wrong(path: str, message: str, remedy: str) -> PydanticCustomError:
    """An error for a validator to raise: `path` is below what is validated; what is wrong, and what to do."""
    return PydanticCustomError("wrong", "{message}", {"path": path, "message": message, "remedy": remedy})


def _printable(text: str) -> str:
    if not text.isprintable():
        bad = next(c for c in text if not c.isprintable())
        raise wrong("", f"the character U+{ord(bad):04X} cannot be printed", "remove it, or write a plain space")
    return text


Line = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_printable)]
"""One line: no breaks, no NUL (PostgreSQL keeps none), no marks that turn the direction of a text; it may be empty."""
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_printable)]
"""A line that says something."""

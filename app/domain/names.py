"""Types of the texts that people enter: one line, a name, free text.

Every text that is stored has one of these types or a pattern of its own, also the key of an entry: `dict[Key, Line]`.
"""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from app.domain.messages import _
from app.domain.validation import invalid_field


def _printable(text: str) -> str:
    if not text.isprintable():
        bad = next(c for c in text if not c.isprintable())
        raise invalid_field(
            "", _("The character U+%(code)04X cannot be printed", code=ord(bad)), _("Remove it, or use a plain space")
        )
    return text


def _storable(text: str) -> str:
    bad = next((c for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), None)
    if bad is not None:
        raise invalid_field("", _("The character U+%(code)04X cannot be stored", code=ord(bad)), _("Remove it"))
    return text


Line = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_printable)]
"""One line: no breaks, no NUL (PostgreSQL keeps none), no marks that turn the direction of a text; it may be empty."""
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_printable)]
"""A line that says something."""
Verbatim = Annotated[str, AfterValidator(_storable)]
"""A text as it came, with its spaces and breaks, but for what cannot be kept: PostgreSQL has no NUL, UTF-8 no half
characters."""
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_storable)]
"""A text of several lines that says something."""
Key = Annotated[Name, Field(max_length=200)]
"""By what an entry of an object is known."""

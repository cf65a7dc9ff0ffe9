"""Reading a form without files."""

from typing import Annotated, Literal

from fastapi import Depends, Request

from app.domain.errors import Invalid
from app.domain.messages import _

MOST_FIELDS = 2000
MAX_TEXT = 500
"""Characters of a field that a person types into."""


async def sent_form(request: Request) -> dict[str, str]:
    """The text of every field, as it came. Of a name that occurs twice, as that of a ticked box does, the last."""
    async with request.form(max_files=0, max_fields=MOST_FIELDS) as form:
        return {name: value for name, value in form.multi_items() if isinstance(value, str)}


SentForm = Annotated[dict[str, str], Depends(sent_form)]


def source_of(location: str) -> Literal["directory", "hub"]:
    """Where a typed location lies. Raises Invalid for none."""
    if not location:
        raise Invalid.field("location", _("The source is missing"), _("Enter a hub id or a directory"))
    return "directory" if location.startswith(("/", "~", ".")) else "hub"

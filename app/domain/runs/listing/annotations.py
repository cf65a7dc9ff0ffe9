"""What people write on a run or a study: a note, and tags to find it by."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from app.domain.messages import _
from app.domain.validation import Name, invalid_field

MAX_NOTE_LENGTH = 10_000
MAX_TAG_LENGTH = 40
MAX_TAGS = 20


def _valid_note(note: str) -> str:
    """Printable characters, line breaks and tabs; PostgreSQL stores no NUL."""
    for position, char in enumerate(note, start=1):
        if not char.isprintable() and char not in "\n\t":
            code = f"{ord(char):04X}"
            what = _("The note has an invisible character, U+%(code)s, at position %(at)s", code=code, at=position)
            raise invalid_field("", what, _("Remove it"))
    if len(note) > MAX_NOTE_LENGTH:
        values = {"length": f"{len(note):,}", "limit": f"{MAX_NOTE_LENGTH:,}"}
        what = _("The note has %(length)s characters, more than the limit of %(limit)s", **values)
        raise invalid_field("", what, _("Shorten it, or link to a longer text"))
    return note


def _valid_tag(tag: str) -> str:
    if len(tag) > MAX_TAG_LENGTH:
        values = {"tag": tag[:MAX_TAG_LENGTH], "limit": MAX_TAG_LENGTH}
        raise invalid_field("", _("The tag %(tag)s… is longer than %(limit)s characters", **values), _("Shorten it"))
    if "," in tag:
        raise invalid_field("", _("The tag %(tag)s contains a comma, which separates tags", tag=tag), _("Leave it out"))
    return tag


def _distinct_tags(tags: list[str]) -> list[str]:
    tags = list(dict.fromkeys(tags))
    if len(tags) > MAX_TAGS:
        what = _("There are %(number)s tags, more than the limit of %(limit)s", number=len(tags), limit=MAX_TAGS)
        raise invalid_field("", what, _("Remove some"))
    return tags


Note = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_valid_note)]
Tag = Annotated[Name, AfterValidator(_valid_tag)]
Tags = Annotated[list[Tag], AfterValidator(_distinct_tags)]
"""In the order given, without duplicates."""


class Annotation(BaseModel):
    """A new note or new tags; None keeps the old ones."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"example": {"note": "Rerun with the fixed tokenizer.", "tags": ["paper", "headlines"]}},
    )

    note: Note | None = None
    """At most 10,000 characters; line breaks are kept."""
    tags: Tags | None = None
    """At most 20, each with at most 40 characters and without commas."""


class Changes(Annotation):
    """What a PATCH of a run or a study changes; None keeps the old value."""

    archived: bool | None = None
    """Lists hide archived runs and studies unless asked for them."""


def split_tags(text: str) -> list[str]:
    """Tags as people type them, separated by commas or line breaks."""
    return [tag for part in text.replace("\n", ",").split(",") if (tag := part.strip())]

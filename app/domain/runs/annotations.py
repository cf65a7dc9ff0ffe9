"""What people write on a run or a study: a note, and tags to find it by."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from app.domain.messages import _
from app.domain.names import Name
from app.domain.validation import invalid_field

LONGEST_NOTE = 10_000
LONGEST_TAG = 40
MOST_TAGS = 20


def _writable(note: str) -> str:
    """Lines, tabs and letters; PostgreSQL keeps no NUL, and other control characters cannot be seen."""
    for place, sign in enumerate(note):
        if not sign.isprintable() and sign not in "\n\t":
            what = _(
                "The note has an invisible character, U+%(code)04X, at position %(position)s",
                code=ord(sign),
                position=place + 1,
            )
            raise invalid_field("", what, _("Remove it"))
    if len(note) > LONGEST_NOTE:
        what = _(
            "The note has %(length)s characters, more than the limit of %(most)s",
            length=f"{len(note):,}",
            most=f"{LONGEST_NOTE:,}",
        )
        raise invalid_field("", what, _("Shorten it, or link to a longer text"))
    return note


def _one_tag(tag: str) -> str:
    if len(tag) > LONGEST_TAG:
        raise invalid_field(
            "",
            _("The tag %(tag)s… is longer than %(most)s characters", tag=tag[:LONGEST_TAG], most=LONGEST_TAG),
            _("Shorten it"),
        )
    if "," in tag:
        raise invalid_field("", _("The tag %(tag)s contains a comma, which separates tags", tag=tag), _("Leave it out"))
    return tag


def _few_tags(tags: list[str]) -> list[str]:
    tags = list(dict.fromkeys(tags))
    if len(tags) > MOST_TAGS:
        raise invalid_field(
            "",
            _("There are %(tags)s tags, more than the limit of %(most)s", tags=len(tags), most=MOST_TAGS),
            _("Remove some"),
        )
    return tags


Note = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_writable)]
Tag = Annotated[Name, AfterValidator(_one_tag)]
Tags = Annotated[list[Tag], AfterValidator(_few_tags)]
"""In the order in which they were given, each once."""


class Annotation(BaseModel):
    """What is to be changed; None leaves it as it is."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {"note": "Rerun after the tokenizer was mended.", "tags": ["paper", "headlines"]}
        },
    )

    note: Note | None = None
    """At most 10,000 characters, lines kept."""
    tags: Tags | None = None
    """At most 20 of at most 40 characters, without commas."""


class Changes(Annotation):
    """What a PATCH of a run or a study changes; None leaves it as it is."""

    archived: bool | None = None
    """Lists hide what is archived, unless their filter asks for it."""


def tags_in(text: str) -> list[str]:
    """Tags as a person types them, with commas between."""
    return [tag for part in text.replace("\n", ",").split(",") if (tag := part.strip())]

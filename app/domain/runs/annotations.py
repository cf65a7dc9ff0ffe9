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
                "the note has a character that cannot be seen, U+%(sign)04X, at place %(place)s",
                sign=ord(sign),
                place=place + 1,
            )
            raise invalid_field("", what, _("remove it"))
    if len(note) > LONGEST_NOTE:
        what = _(
            "the note has %(note)s characters, and at most %(longest_note)s are kept",
            note=f"{len(note):,}",
            longest_note=f"{LONGEST_NOTE:,}",
        )
        raise invalid_field("", what, _("shorten it, or link to a longer text"))
    return note


def _one_tag(tag: str) -> str:
    if len(tag) > LONGEST_TAG:
        raise invalid_field(
            "",
            _(
                "the tag %(longest_tag)s… is longer than %(longest_tag2)s characters",
                longest_tag=tag[:LONGEST_TAG],
                longest_tag2=LONGEST_TAG,
            ),
            _("shorten it"),
        )
    if "," in tag:
        raise invalid_field("", _("the tag %(tag)s has a comma, which parts tags", tag=tag), _("leave it out"))
    return tag


def _few_tags(tags: list[str]) -> list[str]:
    tags = list(dict.fromkeys(tags))
    if len(tags) > MOST_TAGS:
        raise invalid_field(
            "",
            _("there are %(tags)s tags, and at most %(most_tags)s are kept", tags=len(tags), most_tags=MOST_TAGS),
            _("remove some"),
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

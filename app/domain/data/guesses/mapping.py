"""Column mapping: which columns of a source the task's rows are made of.

format              roles                                  known names of columns
labelled            text, label                            text, sentence, review, …; label, class, topic, …
tagged              tokens, tags                           tokens, words; tags, ner_tags, …: lists of one length
text                text                                   text, content, …
prompt-completion   prompt, completion; context            prompt, instruction, question, …; completion, answer, …
messages            messages, or prompt and completion;    messages, conversations; lists of {role, content}
                    context                                or of {from, value}
query-passage       query, passage                         query, anchor, question, …; passage, positive, …
preference          chosen, rejected; prompt               chosen, preferred, …; rejected, dispreferred, …
preference-messages the same: lists of turns               the same
labelled-images     image, label                           image, img, picture, …; label, class, topic, …

Each has an optional `group`: rows of one user, document or template, which are not independent of each other.
"""

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from app.domain.data.guesses.written_lists import read_list
from app.domain.errors import FieldError
from app.domain.messages import Message, _
from app.domain.tasks import Format
from app.domain.validation import Line, Verbatim

Role = Literal[
    "text",
    "label",
    "tokens",
    "tags",
    "prompt",
    "context",
    "completion",
    "messages",
    "query",
    "passage",
    "chosen",
    "rejected",
    "image",
    "group",
]
ColumnKind = Literal["text", "integer", "number", "boolean", "list", "object", "image", "mixed", "empty"]
MOST_LABELS = 1000
"""A column with more distinct values holds no labels."""
MOST_INTEGER_LABELS = 20
"""Distinct integers that are taken for labels without a telling name, and decimals at all: more of them are counts,
ages or measurements."""


class Roles(NamedTuple):
    required: tuple[Role, ...]
    optional: tuple[Role, ...] = ()


ROLES: dict[Format, Roles] = {
    "labelled": Roles(("text", "label"), ("group",)),
    "tagged": Roles(("tokens", "tags"), ("group",)),
    "text": Roles(("text",), ("group",)),
    "prompt-completion": Roles(("prompt", "completion"), ("context", "group")),
    "messages": Roles((), ("messages", "prompt", "completion", "context", "group")),
    "query-passage": Roles(("query", "passage"), ("group",)),
    "preference": Roles(("chosen", "rejected"), ("prompt", "group")),
    "preference-messages": Roles(("chosen", "rejected"), ("prompt", "group")),
    "labelled-images": Roles(("image", "label"), ("group",)),
}
"""`messages` has either messages, or prompt and completion. A context is appended to its prompt after a blank line.
Preferences without a prompt use the beginning that both answers share. A group may be a column with another role
too."""


class Column(BaseModel):
    """A column of a source, with statistics of its values."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: ColumnKind
    examples: list[str] = Field(default_factory=list)
    """Values of the first five rows, shortened."""
    empty: int = 0
    """Rows where it is missing or blank."""
    distinct: int | None = None
    """Number of distinct values; None if too many for labels."""
    values: dict[str, int] = Field(default_factory=dict)
    """The most frequent values with their counts, if there are few."""
    longest: int = 0
    """Length of its longest value in characters."""


def unsupported_label(column: Column) -> tuple[Message, Message] | None:
    """Why a column's values are no classes, and what to do; None if they may be."""
    lists = [read_list(value) for value in column.examples if value.strip()]
    if column.kind in ("list", "object") or (lists and all(found is not None for found in lists)):
        return (
            _("The column %(column)r has several labels per row: multi-label is not supported", column=column.name),
            _("Write one label per row, or a column of yes and no for each label, and a dataset for each such column"),
        )
    many = column.distinct is None or column.distinct > MOST_INTEGER_LABELS
    if column.kind == "number" and many and not all(map(_is_whole, column.values or ["0.5"])):
        return (
            _("The column %(column)r has decimal numbers: regression is not supported", column=column.name),
            _("Divide its range into classes, such as low, medium and high, and write their names into a column"),
        )
    return None


def _is_whole(text: str) -> bool:
    number = float(text)
    return not isfinite(number) or number.is_integer()


class ColumnMapping(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Format
    columns: dict[Role, Verbatim] = Field(default_factory=dict)
    label_names: dict[Verbatim, Line] = Field(default_factory=dict, max_length=MOST_LABELS)
    """Names of the label column's values, or of tags: `{"0": "no", "1": "yes"}`; other values keep their own."""

    def problems(self, columns: Sequence[str]) -> Iterator[FieldError]:
        """Errors for a source with these columns."""
        roles, there = ROLES[self.format], ", ".join(columns)
        required = roles.required
        if self.format == "messages":
            has_messages = "messages" in self.columns or not self.columns.keys() - {"group"}
            required = ("messages",) if has_messages else ("prompt", "completion")
        for role in required:
            if not self.columns.get(role):
                yield FieldError(
                    f"mapping.columns.{role}",
                    _("No column is assigned to %(role)s", role=role),
                    _("Choose from: %(names)s", names=there),
                )
        taken: dict[str, Role] = {}
        for role, column in self.columns.items():
            path = f"mapping.columns.{role}"
            if role not in (*roles.required, *roles.optional):
                able = ", ".join((*roles.required, *roles.optional))
                yield FieldError(
                    path,
                    _("Rows of format %(format)s have no %(role)s", format=self.format, role=role),
                    _("Choose from: %(names)s", names=able),
                )
            elif column and column not in columns:
                yield FieldError(
                    path, _("There is no column %(column)r", column=column), _("Choose from: %(names)s", names=there)
                )
            elif column in taken and role != "group":
                what = _("The column %(column)r is already used as %(role)s", column=column, role=taken[column])
                yield FieldError(path, what, _("Choose another column for one of them"))
            if role != "group":
                taken[column] = role
        if self.format == "messages" and "messages" in self.columns and self.columns.keys() - {"messages", "group"}:
            what = _("Messages hold the whole conversation, including prompts and completions")
            yield FieldError("mapping.columns", what, _("Choose either messages, or prompt and completion"))
        if self.label_names and self.format not in ("labelled", "tagged", "labelled-images"):
            yield FieldError(
                "mapping.label_names",
                _("Rows of format %(format)s have no labels", format=self.format),
                _("Leave it out"),
            )
        if any(not name.strip() for name in self.label_names.values()):
            yield FieldError("mapping.label_names", _("A label name is empty"), _("Enter a name, or leave it out"))
        if any("\0" in text for pair in self.label_names.items() for text in pair):
            yield FieldError("mapping.label_names", _("A label name contains a NUL character"), _("Remove it"))

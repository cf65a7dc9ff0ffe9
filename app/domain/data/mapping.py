"""Column mapping: which column of a source is what the task's rows are made of, and a guess at it.

format              roles                                  known names of columns
labelled            text, label                            text, sentence, review, …; label, class, topic, …
text                text                                   text, content, …
prompt-completion   prompt, completion; context            prompt, instruction, question, …; completion, answer, …
messages            messages, or prompt and completion     messages, conversations; lists of {role, content}
                    that are lists of turns                or of {from, value}
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field

from app.domain.errors import FieldError
from app.domain.names import Line, Verbatim
from app.domain.tasks import Format

Role = Literal["text", "label", "prompt", "context", "completion", "messages"]
ColumnKind = Literal["text", "integer", "number", "boolean", "list", "object", "mixed", "empty"]
MOST_LABELS = 1000
"""A column with more distinct values holds no labels."""


class Roles(NamedTuple):
    """What a format's rows are made of."""

    required: tuple[Role, ...]
    optional: tuple[Role, ...] = ()


ROLES: dict[Format, Roles] = {
    "labelled": Roles(("text", "label")),
    "text": Roles(("text",)),
    "prompt-completion": Roles(("prompt", "completion"), ("context",)),
    "messages": Roles((), ("messages", "prompt", "completion")),
}
"""Of `messages`: either messages, or prompt and completion. A context is put behind its prompt, after a blank line."""

NAMES: dict[Role, tuple[str, ...]] = {
    "text": ("text", "sentence", "review", "headline", "content", "document", "article", "comment", "tweet", "body"),
    "label": ("label", "labels", "class", "category", "topic", "target", "sentiment", "intent", "label_text"),
    "prompt": ("prompt", "instruction", "question", "query", "source", "input"),
    "context": ("context", "input", "passage"),
    "completion": ("completion", "output", "response", "answer", "target", "summary"),
    "messages": ("messages", "conversations", "conversation", "dialog"),
}
"""By which a column is known, the likeliest first."""


class ColumnLike(Protocol):
    """What a guess needs to know of a column."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> ColumnKind: ...
    @property
    def distinct(self) -> int | None: ...
    @property
    def longest(self) -> int: ...


class ColumnMapping(BaseModel):
    """Which column is which."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Format
    columns: dict[Role, Verbatim] = Field(default_factory=dict)
    label_names: dict[Verbatim, Line] = Field(default_factory=dict, max_length=MOST_LABELS)
    """Names for values of the label's column: `{"0": "no", "1": "yes"}`; a value without one keeps its own."""

    def problems(self, columns: Sequence[str]) -> list[FieldError]:
        """What does not fit a source with these columns."""
        return list(self._problems(columns))

    def _problems(self, columns: Sequence[str]) -> Iterator[FieldError]:
        roles, there = ROLES[self.format], ", ".join(columns)
        required = roles.required
        if self.format == "messages":
            whole = "messages" in self.columns or not self.columns
            required = ("messages",) if whole else ("prompt", "completion")
        for role in required:
            if not self.columns.get(role):
                yield FieldError(f"mapping.columns.{role}", f"no column is chosen for the {role}", f"one of: {there}")
        taken: dict[str, Role] = {}
        for role, column in self.columns.items():
            path = f"mapping.columns.{role}"
            if role not in (*roles.required, *roles.optional):
                able = ", ".join((*roles.required, *roles.optional))
                yield FieldError(path, f"rows of {self.format} have no {role}", f"of these: {able}")
            elif column and column not in columns:
                yield FieldError(path, f"there is no column {column!r}", f"one of: {there}")
            elif column in taken:
                what = f"the column {column!r} is the {taken[column]} already"
                yield FieldError(path, what, "choose another column for one of the two")
            taken[column] = role
        if self.format == "messages" and "messages" in self.columns and len(self.columns) > 1:
            what = "messages hold the whole conversation, prompts and completions included"
            yield FieldError("mapping.columns", what, "choose messages alone, or prompt and completion")
        if self.label_names and self.format != "labelled":
            yield FieldError("mapping.label_names", f"rows of {self.format} have no labels", "leave it out")
        if any(not name.strip() for name in self.label_names.values()):
            yield FieldError("mapping.label_names", "a label's name is empty", "give it one, or leave it out")
        if any("\0" in text for pair in self.label_names.items() for text in pair):
            yield FieldError("mapping.label_names", "a label's name has a NUL character", "remove it")


class Guess(NamedTuple):
    """What a source seems to be, and why."""

    mapping: ColumnMapping | None
    reason: str
    """A sentence; of no guess, what is missing."""


def guess(columns: Sequence[ColumnLike]) -> Guess:
    """By names and kinds of columns; the most telling format first."""
    for attempt in (_preference, _conversation, _pair, _labelled, _plain):
        if found := attempt(columns):
            return found
    there = ", ".join(column.name for column in columns)
    return Guess(None, f"No column is named as Vezna knows them ({there}): say which is which.")


def _named(columns: Sequence[ColumnLike], role: Role, kinds: Sequence[ColumnKind], *, beside: str = "") -> str:
    """The column that is known for a role by its name, or an empty string."""
    able = {c.name.strip().lower(): c.name for c in reversed(columns) if c.kind in kinds and c.name != beside}
    return next((able[name] for name in NAMES[role] if name in able), "")


def _preference(columns: Sequence[ColumnLike]) -> Guess | None:
    """Pairs of answers, one of which is better: what is learnt of them is to give the better one."""
    by_name = {c.name.strip().lower(): c for c in reversed(columns)}
    chosen, rejected = by_name.get("chosen"), by_name.get("rejected")
    if chosen is None or rejected is None or chosen.kind not in ("text", "list"):
        return None
    prompt = _named(columns, "prompt", (chosen.kind,))
    form: Format = "messages" if chosen.kind == "list" else "prompt-completion" if prompt else "text"
    mapped: dict[Role, str] = {"prompt": prompt, "completion": chosen.name}
    if not prompt:
        mapped = {"messages" if form == "messages" else "text": chosen.name}
    mapping = ColumnMapping(format=form, columns=mapped)
    what = f"The columns {chosen.name} and {rejected.name} hold preferences, which Vezna does not train on (DPO)"
    return Guess(mapping, f"{what}: it trains to say what is in {chosen.name}, and leaves {rejected.name} out.")


def _conversation(columns: Sequence[ColumnLike]) -> Guess | None:
    if column := _named(columns, "messages", ("list", "mixed")):
        mapping = ColumnMapping(format="messages", columns={"messages": column})
        return Guess(mapping, f"The column {column} holds lists of turns.")
    prompt, completion = _named(columns, "prompt", ("list",)), _named(columns, "completion", ("list",))
    if prompt and completion:
        mapping = ColumnMapping(format="messages", columns={"prompt": prompt, "completion": completion})
        return Guess(mapping, f"The columns {prompt} and {completion} hold lists of turns.")
    return None


def _pair(columns: Sequence[ColumnLike]) -> Guess | None:
    prompt = _named(columns, "prompt", ("text",))
    completion = _named(columns, "completion", ("text",), beside=prompt)
    if not prompt or not completion:
        return None
    found: dict[Role, str] = {"prompt": prompt, "completion": completion}
    context = next((c for c in [_named(columns, "context", ("text",), beside=prompt)] if c != completion), "")
    if context:
        found["context"] = context
    named = ", ".join(found.values())
    return Guess(ColumnMapping(format="prompt-completion", columns=found), f"By the names of its columns: {named}.")


def _labelled(columns: Sequence[ColumnLike]) -> Guess | None:
    text = _named(columns, "text", ("text", "mixed"))
    label = _named(columns, "label", ("text", "integer", "boolean", "mixed"), beside=text)
    if label and not text:
        texts = [c for c in columns if c.kind == "text" and c.name != label]
        text = max(texts, key=lambda c: c.longest).name if texts else ""
        why = f"The column {label} is named like a label, and {text} holds the longest texts."
    else:
        why = f"By the names of its columns: {text}, {label}."
    if text and not label:
        few = [c for c in columns if c.name != text and c.kind in ("text", "integer", "boolean") and _few(c)]
        if len(few) != 1:
            return None
        label = few[0].name
        why = f"The column {text} is named like a text, and {label} has {few[0].distinct} different values."
    if not text or not label or not _few(next(c for c in columns if c.name == label)):
        return None
    return Guess(ColumnMapping(format="labelled", columns={"text": text, "label": label}), why)


def _few(column: ColumnLike) -> bool:
    return column.distinct is not None and 1 <= column.distinct <= MOST_LABELS


def _plain(columns: Sequence[ColumnLike]) -> Guess | None:
    texts = [c for c in columns if c.kind == "text"]
    text = _named(columns, "text", ("text",)) or (texts[0].name if len(columns) == len(texts) == 1 else "")
    if not text:
        return None
    mapping = ColumnMapping(format="text", columns={"text": text})
    return Guess(mapping, f"The column {text} holds texts, and none holds labels.")

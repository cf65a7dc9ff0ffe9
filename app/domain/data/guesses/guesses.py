"""Guesses about the column mapping of a source, made from the names and values of its columns alone.

A guess is shown for confirmation, so a doubtful one is worse than none: where two columns could play a role and neither
has a telling name, the role stays open and `Guess.reason` names the candidates.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from app.domain.data.guesses.column_names import METADATA_WORDS, ROLE_NAMES
from app.domain.data.guesses.guessed_names import words_of
from app.domain.data.guesses.mapping import (
    MOST_INTEGER_LABELS,
    MOST_LABELS,
    Column,
    ColumnKind,
    ColumnMapping,
    Role,
    unsupported_label,
)
from app.domain.messages import _
from app.domain.tasks import Format

LABEL_KINDS: tuple[ColumnKind, ...] = ("text", "integer", "number", "boolean", "mixed")
MOST_UNNAMED_LABELS = 200
"""Distinct values of a label column that its name does not reveal."""
LONGEST_UNNAMED_LABEL = 60
SHORTEST_LONG_TEXT = 40
FEW_ROWS = 20
"""With fewer rows, how often a value repeats says nothing."""

_DATE = re.compile(r"(\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?|[A-Z][a-z]{2,8}\.? \d{1,2},? \d{4})")


class Guess(NamedTuple):
    """A mapping, and why; without one, what is missing."""

    mapping: ColumnMapping | None
    reason: str
    """A sentence."""


def guess_mapping(columns: Sequence[Column], rows: int) -> Guess:
    """By names, kinds and values of columns; the most specific format first."""
    source = _Source(columns, rows)
    attempts: tuple[Callable[[_Source], Guess | None], ...] = (
        *(_preference, _images, _conversation, _tagged, _pair, _retrieval, _unsupported, _labelled, _plain),
    )
    for attempt in attempts:
        if guess := attempt(source):
            return guess
    names = ", ".join(column.name for column in columns)
    return Guess(
        None, _("The columns (%(names)s) could not be assigned automatically: choose what each one is.", names=names)
    )


class _Source(NamedTuple):
    columns: Sequence[Column]
    rows: int

    def named(self, role: Role, kinds: Sequence[ColumnKind], *, exclude: str = "") -> str:
        """The column with a usual name of a role, or an empty string."""
        candidates = {
            c.name.strip().lower(): c.name for c in reversed(self.columns) if c.kind in kinds and c.name != exclude
        }
        return next((candidates[name] for name in ROLE_NAMES[role] if name in candidates), "")

    def with_word_of(self, role: Role, candidates: Iterable[Column]) -> list[Column]:
        """Those whose name contains a usual name of a role as a word: `review_text`, `airlineSentiment`."""
        return [column for column in candidates if not set(ROLE_NAMES[role]).isdisjoint(words_of(column.name))]

    def get(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def repeats(self, column: Column, times: int) -> bool:
        """Whether its values occur `times` times on average."""
        return column.distinct is not None and (self.rows < FEW_ROWS or column.distinct * times <= self.rows)

    def can_be_label(self, column: Column) -> bool:
        """Whether its values could be classes, if its name says so."""
        few = column.distinct is not None and 1 <= column.distinct <= MOST_LABELS
        return few and column.kind in LABEL_KINDS and self.repeats(column, 2)

    def looks_like_label(self, column: Column) -> bool:
        """Whether its values alone make it a label: few distinct ones, no dates, counts or metadata."""
        numeric = column.kind in ("integer", "number")
        most = MOST_INTEGER_LABELS if numeric else MOST_UNNAMED_LABELS
        values = column.values
        return (
            self.can_be_label(column)
            and column.kind != "mixed"
            and 2 <= (column.distinct or 0) <= most
            and column.longest <= LONGEST_UNNAMED_LABEL
            and self.repeats(column, 4)
            and METADATA_WORDS.isdisjoint(words_of(column.name))
            and not (values and all(_DATE.fullmatch(value.strip()) for value in values))
            and (column.kind != "number" or (bool(values) and all(float(value).is_integer() for value in values)))
        )

    def long_texts(self) -> list[Column]:
        """Texts that differ from row to row, the longest first."""
        texts = [
            column
            for column in self.columns
            if column.kind == "text" and column.longest >= SHORTEST_LONG_TEXT and not self.looks_like_label(column)
        ]
        return sorted(texts, key=lambda column: -column.longest)


def _preference(source: _Source) -> Guess | None:
    """Pairs of a better and a worse answer: texts, or lists of turns. Without a prompt both answers begin with it.
    After a prompt of turns, texts are turns of the assistant. In OpenAI's form the turns are in an object, `input`."""
    kinds: tuple[tuple[ColumnKind, Format], ...] = (("text", "preference"), ("list", "preference-messages"))
    for kind, form in kinds:
        chosen = source.named("chosen", (kind,))
        rejected = source.named("rejected", (kind,), exclude=chosen)
        if chosen and rejected:
            columns: dict[Role, str] = {"chosen": chosen, "rejected": rejected}
            openais = next((c.name for c in source.columns if c.kind == "object" and c.name == "input"), "")
            if turns := source.named("prompt", ("list",)) or (openais if kind == "list" else ""):
                form = "preference-messages"
            if prompt := turns or source.named("prompt", ("text",)):
                columns = {"prompt": prompt, **columns}
            return _naming_ignored(_by_names(form, columns), source)
    return None


def _naming_ignored(guess: Guess, source: _Source) -> Guess:
    """A guess whose reason names the columns that may be part of the prompt, and have no role in the format."""
    used = list(guess.mapping.columns.values()) if guess.mapping else []
    names = {"history", *ROLE_NAMES["context"], *ROLE_NAMES["prompt"]}
    if not guess.mapping or guess.mapping.format == "preference":  # conversations have both
        names |= {"system", "system_prompt", "tools", "functions"}
    ignored = [c.name for c in source.columns if c.name.strip().lower() in names and c.name not in used]
    if not ignored:
        return guess
    return guess._replace(
        reason=_(
            "Assigned by the names of the columns: %(names)s. Vezna ignores %(ignored)s: if that belongs to the "
            "prompt, join both in one column, or in a list of messages.",
            names=", ".join(used),
            ignored=", ".join(ignored),
        )
    )


def _conversation(source: _Source) -> Guess | None:
    columns: dict[Role, str] = {"messages": source.named("messages", ("list", "mixed"))}
    if not columns["messages"]:
        columns = {"prompt": source.named("prompt", ("list",)), "completion": source.named("completion", ("list",))}
    if not all(columns.values()):
        return None
    return _by_names("messages", columns)


def _images(source: _Source) -> Guess | None:
    """Images and their labels: only such a column has them."""
    image = source.named("image", ("image",)) or next((c.name for c in source.columns if c.kind == "image"), "")
    if not image:
        return None
    label = source.named("label", LABEL_KINDS)
    labels = [column.name for column in source.columns if source.looks_like_label(column)]
    if not label and not labels:
        return Guess(None, _("The column %(column)r has images, and no column names their classes.", column=image))
    return _by_names("labelled-images", {"image": image, "label": label or labels[0]})


def _tagged(source: _Source) -> Guess | None:
    """Words and their tags: lists, or texts of words with white space between them."""
    tokens = source.named("tokens", ("list", "text"))
    tags = source.named("tags", ("list", "text"), exclude=tokens)
    if not tokens or not tags:
        return None
    if source.get(tokens).kind != "list" and tags.strip().lower() in ("labels", "pos", "tag"):  # words of a text, maybe
        return None
    return _by_names("tagged", {"tokens": tokens, "tags": tags})


def _pair(source: _Source) -> Guess | None:
    prompt = source.named("prompt", ("text",))
    completion = source.named("completion", ("text",), exclude=prompt)
    if not prompt or not completion:
        return None
    columns: dict[Role, str] = {"prompt": prompt, "completion": completion}
    if (context := source.named("context", ("text",), exclude=prompt)) and context != completion:
        columns["context"] = context
    turns = ("system", "system_prompt", "history")  # only a conversation has them
    is_chat = any(column.name in turns and column.longest > len("[]") for column in source.columns)
    return _by_names("messages" if is_chat else "prompt-completion", columns)


def _retrieval(source: _Source) -> Guess | None:
    """Queries and passages. With a label, a passage may be one that its query should not find."""
    query, passage = source.named("query", ("text",)), source.named("passage", ("text",))
    if not query or not passage or source.named("label", LABEL_KINDS):
        return None
    guess = _by_names("query-passage", {"query": query, "passage": passage})
    negative = next((c.name for c in source.columns if c.name.strip().lower().startswith("negative")), "")
    if not negative:
        return guess
    reason = _(
        "The column %(passage)s holds the passages that the queries should find. Negatives are the passages of other "
        "rows: Vezna ignores %(negative)s.",
        passage=passage,
        negative=negative,
    )
    return guess._replace(reason=reason)


def _labelled(source: _Source) -> Guess | None:
    """A named text and a named label; or one of the two by its values, where only one column can be it."""
    text = source.named("text", ("text", "mixed"))
    label = source.named("label", LABEL_KINDS, exclude=text)
    if text and label and source.can_be_label(source.get(label)):
        return _by_names("labelled", {"text": text, "label": label})
    long_texts = source.long_texts()
    if not text and (named := source.with_word_of("text", long_texts)):
        text = named[0].name
    if not label:
        named = source.with_word_of("label", (c for c in source.columns if c.name != text and source.can_be_label(c)))
        label = named[0].name if len(named) == 1 else ""
    if label and not source.can_be_label(source.get(label)):
        return None
    if label and not text and long_texts:
        text = next((column.name for column in long_texts if column.name != label), "")
    if not text and len(long_texts) > 0 and (len(long_texts) == 1 or long_texts[0].longest > 2 * long_texts[1].longest):
        text = long_texts[0].name
    candidates = _label_candidates(source, text)
    if not label and text and len(candidates) == 1:
        label = candidates[0].name
    if not text or not label:
        return None
    distinct = source.get(label).distinct
    return Guess(
        ColumnMapping(format="labelled", columns={"text": text, "label": label}),
        _(
            "The column %(text)s holds the texts; %(label)s, with %(distinct)s distinct values, is the label.",
            text=text,
            label=label,
            distinct=distinct,
        ),
    )


def _unsupported(source: _Source) -> Guess | None:
    """No mapping for texts whose label column has several labels per row, or a quantity: a dataset without the labels
    would be another task."""
    if not source.named("text", ("text",)) and not source.long_texts():
        return None
    names = set(ROLE_NAMES["label"]) | {"score"}
    for column in source.columns:
        if column.name.strip().lower() in names and (refusal := unsupported_label(column)):
            return Guess(None, _("%(what)s. %(remedy)s.", what=refusal[0], remedy=refusal[1]))
    return None


def _plain(source: _Source) -> Guess | None:
    texts = [column for column in source.columns if column.kind == "text"]
    text = source.named("text", ("text",)) or (texts[0].name if len(source.columns) == len(texts) == 1 else "")
    if not text:
        return None
    mapping = ColumnMapping(format="text", columns={"text": text})
    if candidates := _label_candidates(source, text):
        names = ", ".join(column.name for column in candidates)
        return Guess(
            mapping,
            _(
                "The column %(text)s holds the texts. Several columns could be the label: %(names)s.",
                text=text,
                names=names,
            ),
        )
    return Guess(mapping, _("The column %(text)s holds the texts; no column looks like a label.", text=text))


def _label_candidates(source: _Source, text: str) -> list[Column]:
    return [column for column in source.columns if column.name != text and source.looks_like_label(column)]


def _by_names(form: Format, columns: Mapping[Role, str]) -> Guess:
    names = ", ".join(columns.values())
    return Guess(
        ColumnMapping(format=form, columns=dict(columns)),
        _("Assigned by the names of the columns: %(names)s.", names=names),
    )

"""Flips of a study with what was asked and answered: items are sorted by the scores that the verdict rests on; texts
and answers come from the predictions files of its runs. A file that cannot be read is told of, the rest goes on."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from app.domain.comparison.flips import FlipKind, Flips, bands, quarter_edges, quarters
from app.domain.errors import Invalid
from app.domain.messages import _
from app.services.flip_answers import Answer, Answers, Trouble
from app.services.predictions import Predictions
from app.store.files import Files


@dataclass(frozen=True)
class Slice:
    """Which of an arm's items; what is None or empty does not ask."""

    kind: FlipKind
    arm: str
    label: str = ""
    """The true one's name."""
    quarter: int | None = None
    """By length in characters, 0 to 3."""
    band: int | None = None
    """Of the reference's confidence in its own answer, 0 to 3: see `domain.flips.SURE`."""
    text: str = ""
    """Stands in what the model read, or in what was wanted; capitals do not count."""


@dataclass(frozen=True)
class FlipItem:
    """A test item and who made what of it."""

    position: int
    """In the test split, from 0."""
    item: str
    text: str
    label: int | None
    wanted: str | None
    base: Answer | None
    arm: Answer | None
    reference: Answer | None
    """None where the reference has no run that counts."""


@dataclass(frozen=True)
class Found:
    """A page of items, and what there is to choose among."""

    items: tuple[FlipItem, ...] = ()
    total: int = 0
    """Items in the slice, of those listed."""
    next_after: int | None = None
    listed: int = 0
    """Items whose text is at hand."""
    labels: tuple[str, ...] = ()
    edges: tuple[int, int, int] = (0, 0, 0)
    """Of the quarters by length, in characters."""
    by_label: Mapping[int, int] | None = None
    """How many items there are with each label, in the slice but for its label; None where items have none."""
    by_quarter: Mapping[int, int] | None = None
    by_band: Mapping[int, int] | None = None
    """None where answers have no probabilities."""
    troubles: tuple[Trouble, ...] = ()


def browse(session: Session, files: Files, flips: Flips, which: Slice, *, after: int = -1, limit: int = 20) -> Found:
    """The items of a slice that stand behind the position `after`, in the order of the test split. Raises Invalid for a
    label that the items do not have."""
    mask = flips.which(which.kind, which.arm)
    if mask is None:
        return Found()
    answers = Answers.read(session, files, flips, which.arm)
    if answers.texts is None:
        return Found(troubles=answers.troubles)
    facets = _Facets.of(answers.texts, answers.confidence(), mask, which)
    positions = np.flatnonzero(facets.chosen())
    shown = positions[positions > after][: limit + 1]
    return Found(
        items=tuple(_item(answers, which.arm, int(position)) for position in shown[:limit]),
        total=len(positions),
        next_after=int(shown[limit - 1]) if len(shown) > limit else None,
        listed=len(facets.mask),
        labels=answers.texts.labels,
        edges=facets.edges,
        by_label=facets.counts("label"),
        by_quarter=facets.counts("quarter"),
        by_band=facets.counts("band"),
        troubles=answers.troubles,
    )


def _item(answers: Answers, arm: str, row: int) -> FlipItem:
    texts, reference = answers.texts, answers.flips.reference
    assert texts is not None  # noqa: S101 there is no item without
    return FlipItem(
        position=row,
        item=texts.at("item", row),
        text=texts.at("text", row) or "",
        label=texts.at("label", row),
        wanted=texts.at("wanted", row),
        base=answers.untouched(arm, row),
        arm=answers.of(arm, row),
        reference=answers.of(reference, row),
    )


@dataclass(frozen=True)
class _Facets:
    """Items by what one may choose them by; arrays are [R], R the items whose text is at hand."""

    mask: NDArray[np.bool_]
    """Of the kind, with the words in their text."""
    values: Mapping[str, NDArray[np.int64] | None]
    wanted: Mapping[str, int | None]
    edges: tuple[int, int, int]

    @classmethod
    def of(
        cls, texts: Predictions, confidence: NDArray[np.float64] | None, mask: NDArray[np.bool_], which: Slice
    ) -> "_Facets":
        column, label = texts.table.column("text"), texts.column("label")
        rows = min(len(column), len(mask), *([len(confidence)] if confidence is not None else []))
        lengths = pc.utf8_length(column).to_numpy().astype(np.int64)[:rows]
        edges = quarter_edges(lengths)
        return cls(
            mask=mask[:rows] & _holding(texts.table, which.text)[:rows],
            values={
                "label": label[:rows].astype(np.int64) if label is not None else None,
                "quarter": quarters(lengths, edges),
                "band": bands(confidence[:rows]) if confidence is not None else None,
            },
            wanted={"label": _index(texts, which.label), "quarter": which.quarter, "band": which.band},
            edges=edges,
        )

    def chosen(self, but: str = "") -> NDArray[np.bool_]:
        """The slice; `but` is a name that it is not asked for."""
        found = self.mask
        for name, values in self.values.items():
            if name != but and values is not None and self.wanted[name] is not None:
                found = found & (values == self.wanted[name])
        return found

    def counts(self, name: str) -> dict[int, int] | None:
        """How many items of the slice, whatever it says of this name, have which value."""
        values = self.values[name]
        return None if values is None else dict(sorted(Counter(values[self.chosen(name)].tolist()).items()))


def _index(texts: Predictions, label: str) -> int | None:
    if not label:
        return None
    if label not in texts.labels:
        offered = ", ".join(texts.labels) or "none"
        raise Invalid.field(
            "label", _("No item has the label %(label)r", label=label), _("Choose from: %(names)s", names=offered)
        )
    return texts.labels.index(label)


def _holding(table: pa.Table, words: str) -> NDArray[np.bool_]:
    """Rows in whose text, or in whose wanted completion, some words stand."""
    if not words:
        return np.ones(table.num_rows, dtype=bool)
    columns = [table.column(name) for name in ("text", "wanted") if name in table.column_names]
    hits = [pc.match_substring(column, words, ignore_case=True).fill_null(False).to_numpy() for column in columns]
    return np.asarray(np.any(hits, axis=0))

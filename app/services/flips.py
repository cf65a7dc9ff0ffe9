"""Flips of a study with their texts: items are sorted by the scores that the verdict rests on; texts and answers come
from the predictions files of the runs. A file that cannot be read is reported, and the others are shown."""

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
from app.services.flip_answers import Answer, Answers, UnreadRun
from app.services.predictions import Predictions
from app.store.files import Files


@dataclass(frozen=True)
class Slice:
    """Which of an arm's items to list; None or empty does not filter."""

    kind: FlipKind
    arm: str
    label: str = ""
    """Name of the true label."""
    quarter: int | None = None
    """By length in characters, 0 to 3."""
    band: int | None = None
    """By the reference's confidence in its own answer, 0 to 3: see `SURE`."""
    text: str = ""
    """Occurs in the prompt or in the expected completion; case is ignored."""


@dataclass(frozen=True)
class FlipItem:
    """A test item with the answers to it."""

    position: int
    """In the test split, from 0."""
    item: str
    text: str
    label: str | None
    """Name of the true label."""
    target: str | None
    """The expected completion."""
    base_model: Answer | None
    arm: Answer | None
    reference: Answer | None
    """None where the reference has no run that counts."""


@dataclass(frozen=True)
class FlipPage:
    """One page of items, and the values to filter by."""

    items: tuple[FlipItem, ...] = ()
    total: int = 0
    """Items in the slice, of those listed."""
    next_after: int | None = None
    listed: int = 0
    """Items whose text could be read."""
    labels: tuple[str, ...] = ()
    edges: tuple[int, int, int] = (0, 0, 0)
    """Of the quarters by length, in characters."""
    by_label: Mapping[int, int] | None = None
    """Number of items with each label, in the slice without its label filter; None where items have no label."""
    by_quarter: Mapping[int, int] | None = None
    by_band: Mapping[int, int] | None = None
    """None where answers have no probabilities."""
    unread: tuple[UnreadRun, ...] = ()


def browse(session: Session, files: Files, flips: Flips, where: Slice, *, after: int = -1, limit: int = 20) -> FlipPage:
    """The items of a slice after the position `after`, in the order of the test split. Raises Invalid for an unknown
    label."""
    mask = flips.mask(where.kind, where.arm)
    if mask is None:
        return FlipPage()
    answers = Answers.read(session, files, flips, where.arm)
    if answers.texts is None:
        return FlipPage(unread=answers.unread)
    facets = _Facets.of(answers.texts, answers.confidence(), mask, where)
    positions = np.flatnonzero(facets.chosen())
    shown = positions[positions > after][: limit + 1]
    return FlipPage(
        items=tuple(_item(answers, where.arm, int(position)) for position in shown[:limit]),
        total=len(positions),
        next_after=int(shown[limit - 1]) if len(shown) > limit else None,
        listed=len(facets.mask),
        labels=answers.texts.labels,
        edges=facets.edges,
        by_label=facets.counts("label"),
        by_quarter=facets.counts("quarter"),
        by_band=facets.counts("band"),
        unread=answers.unread,
    )


def _item(answers: Answers, arm: str, row: int) -> FlipItem:
    texts, reference = answers.texts, answers.flips.reference
    assert texts is not None  # noqa: S101 there is no item without
    return FlipItem(
        position=row,
        item=texts.at("item", row),
        text=texts.at("text", row) or "",
        label=answers.label_name(texts.at("label", row)),
        target=texts.at("wanted", row),
        base_model=answers.of_base_model(arm, row),
        arm=answers.of(arm, row),
        reference=answers.of(reference, row),
    )


@dataclass(frozen=True)
class _Facets:
    """What items can be filtered by; arrays are [R], R the items whose text could be read."""

    mask: NDArray[np.bool_]
    """Items of the kind that contain the text searched for."""
    values: Mapping[str, NDArray[np.int64] | None]
    filters: Mapping[str, int | None]
    edges: tuple[int, int, int]

    @classmethod
    def of(
        cls, texts: Predictions, confidence: NDArray[np.float64] | None, mask: NDArray[np.bool_], where: Slice
    ) -> "_Facets":
        column, label = texts.table.column("text"), texts.column("label")
        rows = min(len(column), len(mask), *([len(confidence)] if confidence is not None else []))
        lengths = pc.utf8_length(column).to_numpy().astype(np.int64)[:rows]
        edges = quarter_edges(lengths)
        return cls(
            mask=mask[:rows] & _containing(texts.table, where.text)[:rows],
            values={
                "label": label[:rows].astype(np.int64) if label is not None else None,
                "quarter": quarters(lengths, edges),
                "band": bands(confidence[:rows]) if confidence is not None else None,
            },
            filters={"label": _index(texts, where.label), "quarter": where.quarter, "band": where.band},
            edges=edges,
        )

    def chosen(self, but: str = "") -> NDArray[np.bool_]:
        """The slice, without the filter named `but`."""
        chosen = self.mask
        for name, values in self.values.items():
            if name != but and values is not None and self.filters[name] is not None:
                chosen = chosen & (values == self.filters[name])
        return chosen

    def counts(self, name: str) -> dict[int, int] | None:
        """Number of items by value, in the slice without the filter of this name."""
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


def _containing(table: pa.Table, words: str) -> NDArray[np.bool_]:
    """Rows whose text or expected completion contains `words`."""
    if not words:
        return np.ones(table.num_rows, dtype=bool)
    columns = [table.column(name) for name in ("text", "wanted") if name in table.column_names]
    hits = [pc.match_substring(column, words, ignore_case=True).fill_null(False).to_numpy() for column in columns]
    return np.asarray(np.any(hits, axis=0))

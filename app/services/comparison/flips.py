"""Flips of a study with their texts and answers.

Items are sorted by the scores that the verdict rests on; texts and answers come from the predictions files of the runs.
A file that cannot be read is reported, and the others are shown.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from app.domain.comparison.flips import HALF, FlipKind, Flips, JudgedArm, bands, quarter_edges, quarters
from app.domain.errors import Invalid, NotFound
from app.domain.messages import _, choose_from
from app.domain.tasks import METRICS, MetricName
from app.services.runs.predictions import Predictions, of_artifact
from app.store.files.files import Files
from app.store.runs import artifacts
from app.store.tables import ArtifactRow


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
class Answer:
    """A model's answer to an item, over the seeds that count."""

    score: float
    """Mean of the verdict's metric."""
    seeds: int
    right: int
    """Seeds whose score is above one half."""
    label: str | None = None
    """The label that most seeds chose."""
    probability: float | None = None
    """Mean probability that those seeds gave it."""
    probability_of_true_label: float | None = None
    """Mean over all seeds."""
    text: str | None = None
    """The generated answer of the first seed."""
    text_seed: int | None = None
    text_metrics: Mapping[MetricName, float] | None = None
    """Metrics of that text."""


@dataclass(frozen=True)
class UnreadRun:
    """A run whose answers could not be read."""

    run_id: int
    arm: str
    seed: int
    why: str


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
    words: tuple[Sequence[str] | None, ...] = ()
    """Words of each of these items, if they are tagged."""
    total: int = 0
    """Items in the slice, of those listed."""
    next_after: int | None = None
    listed: int = 0
    """Items whose text could be read."""
    labels: tuple[str, ...] = ()
    edges: tuple[int, int, int] = (0, 0, 0)
    """Characters between the quarters by length."""
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
        items=tuple(answers.item(answers.texts, where.arm, int(position)) for position in shown[:limit]),
        words=tuple(answers.texts.at("words", int(position)) for position in shown[:limit]),
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
    known = texts.labels if "label" in texts.table.column_names else ()  # tagged items have tags, and no label
    if label not in known:
        raise Invalid.field("label", _("No item has the label %(label)r", label=label), choose_from(known or ["none"]))
    return known.index(label)


def _containing(table: pa.Table, words: str) -> NDArray[np.bool_]:
    """Rows whose text or expected completion contains `words`."""
    if not words:
        return np.ones(table.num_rows, dtype=bool)
    columns = [table.column(name) for name in ("text", "wanted") if name in table.column_names]
    hits = [pc.match_substring(column, words, ignore_case=True).fill_null(False).to_numpy() for column in columns]
    return np.asarray(np.any(hits, axis=0))


@dataclass(frozen=True)
class Answers:
    """The predictions of an arm's runs and the reference's, as far as they could be read."""

    flips: Flips
    of_run: Mapping[int, Predictions]
    texts: Predictions | None
    """The predictions that hold the items' texts; None if no file could be read."""
    unread: tuple[UnreadRun, ...]

    @classmethod
    def read(cls, session: Session, files: Files, flips: Flips, arm: str) -> "Answers":
        """Read the files of the runs that count."""
        both = dict.fromkeys((flips.reference, arm))
        runs = [run for name in both if name in flips.arms for run in flips.arms[name].runs]
        known = artifacts.predictions_of(session, [run.run_id for run in runs])
        of_run: dict[int, Predictions] = {}
        texts, unread = None, []
        for run in runs:
            try:
                predictions = _read(files, known.get(run.run_id), flips, texts=texts is None)
            except (NotFound, Invalid) as error:
                unread.append(UnreadRun(run.run_id, run.arm, run.seed, error.message))
            else:
                of_run[run.run_id] = predictions
                texts = texts or predictions
        return cls(flips, of_run, texts, tuple(unread))

    def confidence(self) -> NDArray[np.float64] | None:
        """The reference's probability of its own answer, mean over its seeds, [R]; None where answers have none."""
        judged = self.flips.arms.get(self.flips.reference)
        read = [self.of_run[run.run_id] for run in judged.runs if run.run_id in self.of_run] if judged else []
        columns = [column for predictions in read if (column := predictions.column("sure")) is not None]
        rows = min(map(len, columns), default=0)
        return np.mean([column[:rows] for column in columns], axis=0, dtype=np.float64) if columns else None

    def item(self, texts: Predictions, arm: str, row: int) -> FlipItem:
        """An item with the answers; the base model's are those with the heads of the arm's runs before training."""
        own, reference = self.flips.arms.get(arm), self.flips.arms.get(self.flips.reference)
        return FlipItem(
            position=row,
            item=texts.at("item", row),
            text=texts.at("text", row) or "",
            label=_label_name(texts, texts.at("label", row)),
            target=texts.at("wanted", row),
            base_model=self._answer(own, own.base, row, "base_") if own and own.base is not None else None,
            arm=self._answer(own, own.scores, row, "") if own else None,
            reference=self._answer(reference, reference.scores, row, "") if reference else None,
        )

    def _answer(self, judged: JudgedArm, scores: NDArray[np.float64], row: int, side: str) -> Answer:
        by_seed = scores[:, row]
        plain = Answer(score=float(by_seed.mean()), seeds=len(by_seed), right=int((by_seed > HALF).sum()))
        answers = [
            (run, predictions, predictions.at(f"{side}answer", row))
            for run in judged.runs
            if (predictions := self.of_run.get(run.run_id)) is not None and row < predictions.table.num_rows
        ]
        if not answers or answers[0][2] is None:
            return plain
        run, predictions, text = answers[0]
        if isinstance(text, str):
            metrics = {name: predictions.at(f"{side}{name}", row) for name in METRICS}
            known = {name: float(value) for name, value in metrics.items() if value is not None}
            return replace(plain, text=text, text_seed=run.seed, text_metrics=known)
        chosen, _times = Counter(label for _run, _predictions, label in answers).most_common(1)[0]
        return replace(
            plain,
            label=_label_name(predictions, chosen),
            probability=_mean(p.at(f"{side}sure", row) for _run, p, label in answers if label == chosen),
            probability_of_true_label=_mean(p.at(f"{side}of_label", row) for _run, p, _label in answers),
        )


def _label_name(predictions: Predictions, label: int | None) -> str | None:
    """The name of a label; its number where the file does not name it."""
    if label is None:
        return None
    return predictions.labels[label] if 0 <= label < len(predictions.labels) else str(label)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _read(files: Files, artifact: ArtifactRow | None, flips: Flips, *, texts: bool) -> Predictions:
    if artifact is None:
        raise NotFound(_("The run left no predictions."))
    predictions = of_artifact(files, artifact, texts=texts)
    if predictions.items_hash != flips.items_hash:
        raise Invalid(_("The predictions of the run are of other items than its scores."))
    return predictions

"""The context of the page of an imported run: what its file says, and nothing that was not measured."""

from dataclasses import dataclass
from datetime import datetime

from app.domain.comparison.intervals import ScoreInterval
from app.domain.comparison.proportions import wilson
from app.domain.methods import Family
from app.services.annotations import Notes
from app.store.tables import RunRow
from app.web.format import count, duration, file_size, memory, percent, rate, share
from app.web.i18n import gettext as _
from app.web.text.metrics import title


@dataclass(frozen=True)
class ImportedRunPage:
    """A result from elsewhere."""

    id: int
    label: str
    family: Family
    collection_id: int
    collection: str
    title: str
    interval: ScoreInterval | None
    """Over its items; None where their number is not known."""
    by_item: bool
    """There are scores of single items."""
    notes: Notes
    source: str
    brought_at: datetime
    facts: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, row: RunRow, collection: str, *, by_item: bool, notes: Notes) -> "ImportedRunPage":
        """From the store."""
        found = row.imported_result
        assert found is not None and row.collection_id is not None  # noqa: S101  (the caller looks)
        said: list[tuple[str, str | None]] = [
            (_("Test set"), found.test_set),
            (_("Base model"), found.base_model),
            (_("Trained on"), found.dataset),
            (_("Device"), found.device),
            (_("Precision"), found.precision),
            (_("Versions"), ", ".join(f"{name} {version}" for name, version in found.versions.items())),
            (_("Seed"), str(found.seed)),
            (_("Learning rate"), rate(found.learning_rate) if found.learning_rate is not None else None),
            (_("Steps"), count(found.steps) if found.steps is not None else None),
            (_("Tokens trained on"), count(found.tokens) if found.tokens is not None else None),
            (_("Train time"), duration(found.train_seconds) if found.train_seconds is not None else None),
            (_("Peak memory"), _peak(found.peak_bytes, found.memory_measure)),
            (_("Trainable parameters"), _trains(found.trainable_parameters, found.total_parameters)),
            (_("File"), file_size(found.file_bytes) if found.file_bytes is not None else None),
        ]
        return cls(
            id=row.id,
            label=found.label,
            family=found.its_family,
            collection_id=row.collection_id,
            collection=collection,
            title=_(
                "%(label)s reaches %(metric)s %(score)s",
                label=found.label,
                metric=title(found.metric),
                score=percent(found.score),
            ),
            interval=wilson(found.score, found.n) if found.n else None,
            by_item=by_item,
            notes=notes,
            source=found.source,
            brought_at=row.queued_at,
            facts=tuple((name, value) for name, value in said if value),
            settings=tuple((name, _written(value)) for name, value in sorted(found.settings.items())),
        )


def _peak(size: int | None, measure: str | None) -> str | None:
    if size is None:
        return None
    return f"{memory(size)} ({measure})" if measure else memory(size)


def _trains(trainable: int | None, total: int | None) -> str | None:
    if trainable is None:
        return None
    return f"{count(trainable)} ({share(trainable, total)})" if total else count(trainable)


def _written(value: object) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return rate(value) if isinstance(value, float) else "–" if value is None else str(value)

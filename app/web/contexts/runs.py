"""The context of the list of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import urlencode

from app.domain.methods import METHODS, Family
from app.domain.runs import RunStatus
from app.store.queries.run_list import COLUMNS, Sort
from app.store.tables import RunRow, now
from app.web.contexts.shell import Option
from app.web.i18n import gettext as _
from app.web.words import methods
from app.web.words.metrics import heading, title


@dataclass(frozen=True)
class RunLine:
    """A run in a list."""

    id: int
    family: Family
    arm: str
    study_id: int | None
    study: str
    status: str
    seed: int
    learning_rate: float | None
    metric: str
    """What the score is."""
    score: float | None
    peak_bytes: int | None
    train_seconds: float | None
    queued_at: datetime
    started_at: datetime | None

    @property
    def measure(self) -> str:
        """The metric's title."""
        return title(self.metric)

    @property
    def waits_seconds(self) -> float:
        """Since it was queued."""
        return (now() - self.queued_at).total_seconds()

    @classmethod
    def of(cls, row: RunRow, studies: Mapping[int, str]) -> "RunLine":
        """From its row; `studies` has names by id."""
        return cls(
            id=row.id,
            family=row.family,
            arm=row.arm,
            study_id=row.study_id,
            study=studies.get(row.study_id or 0, ""),
            status=row.status,
            seed=row.seed,
            learning_rate=row.learning_rate,
            metric=row.metric,
            score=row.score,
            peak_bytes=row.peak_bytes,
            train_seconds=row.train_seconds if row.status == RunStatus.SUCCEEDED else None,
            queued_at=row.queued_at,
            started_at=row.started_at,
        )


@dataclass(frozen=True)
class RunsPage:
    """Runs, and how they are chosen and ordered. All of it is in the address."""

    runs: tuple[RunLine, ...]
    total: int
    any: bool
    """There is a run at all, whatever the filter says."""
    query: Mapping[str, str]
    """The address's own words: status, method, study, sort."""
    studies: tuple[Option, ...]
    next_after: int | None

    @property
    def mixed(self) -> bool:
        """The runs shown are judged by different metrics."""
        return len({run.metric for run in self.runs}) > 1

    @property
    def measure(self) -> str:
        """The head of the column of scores."""
        return _("Score") if self.mixed else heading(self.runs[0].metric)

    @property
    def statuses(self) -> Sequence[str]:
        """What one may filter by."""
        return [status.value for status in RunStatus]

    @property
    def methods(self) -> Sequence[tuple[str, str]]:
        """What one may filter by: kinds and names."""
        return [(kind, methods.name(facts)) for kind, facts in METHODS.items()]

    @property
    def filtered(self) -> bool:
        """A filter is in force."""
        return bool({"status", "method", "study"} & set(self.query))

    def sorted_by(self, sort: Sort) -> str:
        """The address of the same runs in another order."""
        return self._address({"sort": sort} if sort != "newest" else {"sort": ""})

    def is_sorted_by(self, sort: Sort) -> bool:
        """The order in force."""
        return self.query.get("sort", "newest") == sort

    def direction(self, sort: Sort) -> Literal["ascending", "descending"]:
        """What that order does."""
        return "descending" if COLUMNS[sort][1] else "ascending"

    @property
    def next_page(self) -> str:
        """The address of what follows."""
        return self._address({"after": str(self.next_after)})

    def _address(self, change: Mapping[str, str]) -> str:
        words = {name: word for name, word in (dict(self.query) | dict(change)).items() if word}
        return "/runs" + (f"?{urlencode(words)}" if words else "")

"""The context of the list of studies."""

from dataclasses import dataclass
from datetime import datetime

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.methods import Family
from app.domain.studies.spec import StudyStatus, status_of
from app.store.tables import StudyRow
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.headline import phrase
from app.web.text.verdict import VERDICT_LABELS, difference_text

HALF_WIDTH = 60.0
UNITS = 4.0
"""Margins from the middle of a scale to its end."""


@dataclass(frozen=True)
class Scale:
    """A difference and its interval in units of the margin, so that rows compare: 0 is at 60 of 120, a margin is 15."""

    low: float
    high: float
    at: float
    past: int
    """−1 or 1: the difference itself lies beyond that end."""
    label: str

    @classmethod
    def of(cls, arm: StudyArm, margin: float) -> "Scale | None":
        """From an arm's verdict."""
        difference = arm.difference
        if difference is None:
            return None
        return cls(
            low=_place(difference.low / margin),
            high=_place(difference.high / margin),
            at=_place(difference.delta / margin),
            past=0 if abs(difference.delta) < UNITS * margin else 1 if difference.delta > 0 else -1,
            label=_("%(by)s points, %(word)s", by=difference_text(arm), word=_(VERDICT_LABELS[arm.verdict_kind])),
        )


@dataclass(frozen=True)
class ArmLine:
    """An arm in a list."""

    family: Family
    title: str
    hollow: int
    scale: Scale | None


@dataclass(frozen=True)
class StudyLine:
    """A study in a list."""

    id: int
    name: str
    base_model: str
    dataset: str
    seeds: int
    arms: tuple[ArmLine, ...]
    reference: str
    phrase: str
    status: str
    status_words: str
    created_at: datetime

    @classmethod
    def of(cls, row: StudyRow, found: StudyComparison, base_model: str, dataset: str) -> "StudyLine":
        """From its row and what it has found so far."""
        status, words = _state(found)
        return cls(
            id=row.id,
            name=row.name,
            base_model=base_model,
            dataset=dataset,
            seeds=len(found.spec.seeds),
            arms=tuple(ArmLine(a.family, a.title, a.hollow, Scale.of(a, found.margin)) for a in found.arms),
            reference=found.spec.reference_arm,
            phrase=phrase(found) if found.complete and status != "cancelled" else "",
            status=status,
            status_words=words,
            created_at=row.created_at,
        )


@dataclass(frozen=True)
class StudiesPage:
    """Studies, newest first."""

    studies: tuple[StudyLine, ...]
    first: bool
    """The page that begins with the newest."""
    next_after: int | None
    archived: bool
    """The list shows archived studies."""
    any_archived: bool


def _place(margins: float) -> float:
    return round(HALF_WIDTH * (1 + max(-1.0, min(1.0, margins / UNITS))), 2)


def _state(found: StudyComparison) -> tuple[str, str]:
    """The icon, and the words where they say more than the state's own."""
    status, total = status_of(found.statuses), found.total
    failed = sum(times for _reason, times in found.failures)
    if status is StudyStatus.RUNNING:
        done = found.done
        return status.value, ngettext("%(done)s of %(num)s run", "%(done)s of %(num)s runs", total, done=done)
    if status is StudyStatus.FINISHED and failed:
        return "failed", ngettext(
            "%(failed)s of %(num)s run failed", "%(failed)s of %(num)s runs failed", total, failed=failed
        )
    return status.value, ""

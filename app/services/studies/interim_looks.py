"""Interim looks (decision 13): with results in view, a study is tested again, or ends earlier than it was planned. Each
raises the confidence that its verdicts need (`app.domain.comparison.statistics.verdict.confidence_after`)."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy.orm import Session

from app.domain.runs.status import RunStatus
from app.store.runs import queries as runs
from app.store.tables import RunRow, StudyRow


def count_growth(session: Session, study: StudyRow) -> None:
    """Seeds or an arm are added to a study, which is locked."""
    study.interim_looks = with_growth(session, study)


def with_growth(session: Session, study: StudyRow) -> int:
    """The looks at a study once seeds or an arm are added."""
    return study.interim_looks + (_in_view_since(_counting(runs.of_study(session, study.id))) is not None)


def count_cancelled(session: Session, study: StudyRow) -> None:
    """Runs of a study, which is locked, are about to be cancelled."""
    study.interim_looks += cancelling_is_one(runs.of_study(session, study.id))


def count_stopped_arm(session: Session, study: StudyRow) -> None:
    """An arm of a study, which is locked, is about to be stopped. With two arms that ends the comparison as a cancel
    does; with more, the verdicts on the others go on as planned."""
    if len(study.spec.arms) == 2:
        count_cancelled(session, study)


def cancelling_is_one(of_study: Iterable[RunRow]) -> bool:
    """Whether cancelling runs of a study is a look: to cancel the rest at the first win is to test after every seed.
    What is cancelled after that belongs to the same look."""
    counting = _counting(of_study)
    since = _in_view_since(counting)
    if since is None or all(RunStatus(run.status).terminal for run in counting):
        return False
    cancelled = (run.cancel_requested_at for run in counting)
    return all(at is None or at < since for at in cancelled)


def _counting(of_study: Iterable[RunRow]) -> list[RunRow]:
    """The runs that enter the verdict."""
    return [run for run in of_study if run.trial_round is None]


def _in_view_since(counting: list[RunRow]) -> datetime | None:
    """When the first of them succeeded."""
    succeeded = (run for run in counting if run.status == RunStatus.SUCCEEDED)
    return min((run.finished_at or run.queued_at for run in succeeded), default=None)

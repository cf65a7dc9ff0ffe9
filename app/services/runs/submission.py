"""Submissions that must be compatible and fit a live worker: runs, studies, and arms of an existing study.

Compatibility is checked once, in the transaction that queues.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.errors import Invalid
from app.domain.resources.memory_fit import FitReport
from app.domain.runs.spec import RunSpec
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.domain.validation import field_error
from app.services.models.compatibility import Compatible, check
from app.services.resources import memory_fit
from app.services.studies import interim_looks
from app.services.studies import studies as study_service
from app.services.studies.plan import PlannedStudy, check_seconds, planned, trial_report
from app.settings import Settings
from app.store.database.session import Database
from app.store.studies import queries as studies

OF_ARM = re.compile(r"^arms\.\d+\.?")
"""Before the path of an arm's field, where a whole study is checked."""
Accepted = TypeVar("Accepted")


def submit(
    db: Database,
    bell: Doorbell,
    settings: Settings,
    spec: RunSpec | StudySpec,
    accept: Callable[[Session, Compatible], Accepted],
    *,
    insist: bool,
    since: int = 0,
    owner_id: int | None = None,
) -> Accepted:
    """Check a spec and queue it with `accept`, in one transaction. Raises Invalid; then nothing is queued. Without
    `insist` it must fit a live worker, and a tuning budget in seconds two trials of each arm, as far as is known. For
    a refusal the memory savings are requested. `owner_id`: the owner of the study, if not the session's user."""
    needs_memory: RunSpec | StudySpec = spec
    if isinstance(spec, StudySpec):
        needs_memory = (_last_arm(spec) if since else spec).largest
    study = isinstance(spec, StudySpec)
    with db.transaction() as session:
        compatible = check(session, spec, since=since, owner_id=owner_id)

        def known(spec: RunSpec | StudySpec) -> FitReport:
            return memory_fit.fit_report(session, None, settings, spec, *compatible, owner_id)

        report = known(needs_memory)
        if isinstance(spec, StudySpec) and not since and not insist:
            check_seconds(spec, compatible, trial_report(spec, report, known))
        refusal = None if insist else report.refusal(study=study)
        if refusal is None:
            return accept(session, compatible)
    with db.transaction() as session:
        report = memory_fit.fit_report(session, bell, settings, needs_memory, *compatible, owner_id)
    raise report.refusal(study=study) or refusal


def plan_arm(
    db: Database, bell: Doorbell, settings: Settings, session: Session, study_id: int, arm: ArmSpec
) -> PlannedStudy:
    """The cost of an additional arm, and the power of the study with it. Raises NotFound, and Invalid with paths as
    in an `ArmSpec`."""
    with _paths_of_an_arm():
        spec, study = _with_arm(session, study_id, arm), studies.get(session, study_id)
        looks, since = interim_looks.with_growth(session, study), len(spec.arms) - 1
        return planned(db, bell, settings, session, spec, interim_looks=looks, since=since, owner_id=study.owner_id)


def add_arm(
    db: Database,
    bell: Doorbell,
    settings: Settings,
    study_id: int,
    arm: ArmSpec,
    then: Callable[[Session], Accepted],
    *,
    insist: bool,
) -> Accepted:
    """Add an arm, queue its runs, and do `then` in the same transaction. Raises NotFound, and Invalid with paths as in
    an `ArmSpec`; then nothing is queued."""

    def accept(session: Session, compatible: Compatible) -> Accepted:
        study_service.add_arm(session, bell, study_id, arm, compatible)
        return then(session)

    with _paths_of_an_arm():
        with db.reading() as session:
            spec, owner_id = _with_arm(session, study_id, arm), studies.get(session, study_id).owner_id
        since = len(spec.arms) - 1
        return submit(db, bell, settings, spec, accept, insist=insist, since=since, owner_id=owner_id)


def _with_arm(session: Session, study_id: int, arm: ArmSpec) -> StudySpec:
    """The study with it as the last arm."""
    study = studies.get(session, study_id)
    return study_service.as_begun(session, study, study_service.with_arm(session, study.spec, arm))


def _last_arm(spec: StudySpec) -> StudySpec:
    return spec.model_copy(update={"arms": spec.arms[-1:], "reference": ""})


@contextmanager
def _paths_of_an_arm() -> Iterator[None]:
    """Errors of the study as errors of the arm."""
    try:
        yield
    except ValidationError as error:
        fields = [field_error(details, {}) for details in error.errors()]
        raise _of_arm(Invalid.of(fields)) from None
    except Invalid as error:
        raise _of_arm(error) from error


def _of_arm(error: Invalid) -> Invalid:
    return Invalid(error.message, [replace(field, path=OF_ARM.sub("", field.path)) for field in error.fields])

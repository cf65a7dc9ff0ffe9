"""An arm for a study that is there: the page's form and the API add it alike, and both name fields as the arm has
them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.domain.errors import Invalid
from app.domain.studies.spec import ArmSpec, StudySpec
from app.queue import Doorbell
from app.services import studies as study_service
from app.services.resources import memory_fit
from app.settings import Settings
from app.store.queries import studies
from app.store.session import Database
from app.web.http.errors import field_errors
from app.web.text.plan import Plan, plan_of

OF_ARM = re.compile(r"^arms\.\d+\.?")
"""Before the path of an arm's field, where a study is what was checked."""


def plan_arm(session: Session, study_id: int, arm: ArmSpec) -> Plan:
    """What it would take, and what the study could show with it. Raises NotFound, and Invalid with paths as in an
    `ArmSpec`."""
    with _paths_of_an_arm():
        whole = _grown(session, study_id, arm)
        found = plan_of(session, whole, studies.get(session, study_id).interim_looks, since=len(whole.arms) - 1)
    return replace(found, arms=found.arms[-1:], spec=_alone(whole))


def add_arm(db: Database, bell: Doorbell, settings: Settings, study_id: int, arm: ArmSpec, *, insist: bool) -> None:
    """Add it and queue what it owes. Raises NotFound, and Invalid with paths as in an `ArmSpec`; then nothing is
    queued. Without `insist` it must be predicted to fit a live worker."""
    with _paths_of_an_arm():
        with db.reading() as session:
            whole = _grown(session, study_id, arm)
        if not insist:
            memory_fit.require_memory_fit(db, bell, settings, _alone(whole))
        with db.transaction() as session:
            study_service.add_arm(session, bell, study_id, arm)


def _grown(session: Session, study_id: int, arm: ArmSpec) -> StudySpec:
    """The study with it as the last arm."""
    study = studies.get(session, study_id)
    return study_service.as_begun(session, study, study_service.with_arm(study.spec, arm))


def _alone(grown: StudySpec) -> StudySpec:
    """The study as if the last arm were all of it."""
    return grown.model_copy(update={"arms": grown.arms[-1:], "reference": ""})


@contextmanager
def _paths_of_an_arm() -> Iterator[None]:
    """What is found wrong with a study within is told of the arm."""
    try:
        yield
    except ValidationError as error:
        fields = field_errors(error.errors())
        raise _own(Invalid.of(fields)) from None
    except Invalid as error:
        raise _own(error) from error


def _own(error: Invalid) -> Invalid:
    return Invalid(error.message, [replace(field, path=OF_ARM.sub("", field.path)) for field in error.fields])

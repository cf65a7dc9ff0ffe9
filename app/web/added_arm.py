"""An arm for a study that is there: the page's form and the API add it alike, and both name fields as the arm has
them."""

import re
from dataclasses import replace

from pydantic import ValidationError

from app.domain.errors import Invalid
from app.domain.studies import ArmSpec
from app.queue import Doorbell
from app.services import studies as study_service
from app.services import will_it_fit
from app.settings import Settings
from app.store.queries import studies
from app.store.session import Database
from app.web.errors import field_errors

OF_ARM = re.compile(r"^arms\.\d+\.?")
"""Before the path of an arm's field, where a study is what was checked."""


def add_arm(db: Database, bell: Doorbell, settings: Settings, study_id: int, arm: ArmSpec, *, insist: bool) -> None:
    """Add it and queue what it owes. Raises NotFound, and Invalid with paths as in an `ArmSpec`; then nothing is
    queued. Without `insist` it must be predicted to fit a live worker."""
    try:
        with db.reading() as session:
            study = studies.get(session, study_id)
            whole = study_service.as_begun(session, study, study_service.with_arm(study.spec, arm))
        if not insist:
            alone = whole.model_copy(update={"arms": [arm], "reference": ""})
            will_it_fit.refuse_misfit(db, bell, settings, alone)
        with db.transaction() as session:
            study_service.add_arm(session, bell, study_id, arm)
    except ValidationError as error:
        fields = field_errors(error.errors())
        raise _own(Invalid("; ".join(field.message for field in fields), fields)) from None
    except Invalid as error:
        raise _own(error) from error


def _own(error: Invalid) -> Invalid:
    return Invalid(error.message, [replace(field, path=OF_ARM.sub("", field.path)) for field in error.fields])

"""Notes and tags: what people write on runs and studies."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.runs.listing.annotations import Annotation
from app.services.users import audit
from app.store.database.ownership import require_change
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.studies import tags
from app.store.tables import RunRow, StudyRow

Owner = Literal["runs", "studies"]
"""As in addresses."""


@dataclass(frozen=True)
class Notes:
    """The note and the tags of a run or a study."""

    owner: Owner
    id: int
    note: str
    tags: tuple[str, ...]
    archived: bool

    @property
    def address(self) -> str:
        """Address of the page of the run or the study."""
        return f"/{self.owner}/{self.id}"


def notes_of(session: Session, owner: Owner, owner_id: int) -> Notes:
    """The note and the tags of a run or a study. Raises NotFound."""
    row = runs.get(session, owner_id) if owner == "runs" else studies.get(session, owner_id)
    by_id = tags.of_runs(session, [owner_id]) if owner == "runs" else tags.of_studies(session, [owner_id])
    return Notes(owner, owner_id, row.note, tuple(by_id.get(owner_id, ())), row.archived)


def annotate_run(session: Session, run_id: int, changes: Annotation) -> RunRow:
    """Change a run's note, its tags, or both. Raises NotFound."""
    run = runs.get(session, run_id)
    require_change(session, run)
    if changes.note is not None:
        run.note = changes.note
    if changes.tags is not None:
        tags.set_of_run(session, run_id, changes.tags)
    session.flush()
    _record(session, Action.ANNOTATE_RUN, run_id, changes)
    return run


def annotate_study(session: Session, study_id: int, changes: Annotation) -> StudyRow:
    """Change a study's note, its tags, or both. Raises NotFound."""
    study = studies.get(session, study_id, lock=True)
    require_change(session, study)
    if changes.note is not None:
        study.note = changes.note
    if changes.tags is not None:
        tags.set_of_study(session, study_id, changes.tags)
    session.flush()
    _record(session, Action.ANNOTATE_STUDY, study_id, changes)
    return study


def _record(session: Session, action: Action, owner_id: int, changes: Annotation) -> None:
    if changes.note is not None or changes.tags is not None:
        audit.record(session, action, owner_id, note=changes.note is not None, tags=changes.tags)

"""Permanently deleting runs, studies, collections, base models, datasets and uploads.

    lock the rows → count what goes, refuse what is in use → delete the rows → commit → remove the files

A worker that claims or reports one of the runs meanwhile waits for the lock, and then finds no run. Files that cannot
be removed after the commit are left to the control node (`worker.nodes.removal`).
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import ColumnElement
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.errors import Conflict
from app.domain.messages import _
from app.domain.runs.status import RunStatus
from app.services.data.uploads import unused
from app.services.hooks import all_hooks
from app.services.users import audit
from app.store.data import queries as datasets
from app.store.data import uploads
from app.store.database import deletion as rows
from app.store.database.ownership import require_change
from app.store.database.session import after_commit
from app.store.files.files import RUNS, Files, run_folder
from app.store.models import queries as base_models
from app.store.resources import estimates
from app.store.runs import queries as runs
from app.store.studies import collections
from app.store.studies import queries as studies
from app.store.tables import DatasetRow, RunRow, UploadRow

TRAINED = re.compile(rf"(?P<folder>{RUNS}/(?P<run>\d+)/(?P<attempt>\d+|checkpoints))/.+")
"""A file of an attempt to train a run: a result below the attempt's number, or a checkpoint."""


@dataclass(frozen=True)
class Deletion:
    """What a deletion removes, or why it is refused."""

    runs: int
    files: int
    """In the files store: adapters, models, predictions."""
    bytes: int
    refused: str = ""
    """A sentence; empty if it can be deleted."""

    def require(self) -> None:
        """Raises Conflict if it cannot be deleted."""
        if self.refused:
            raise Conflict(self.refused)


def of_run(session: Session, run_id: int) -> Deletion:
    """What deleting a run removes. Raises NotFound."""
    run, refused = runs.get(session, run_id), ""
    session.refresh(run)  # what this session has read may be older than the lock
    if run.study_id is not None:
        values = {"run": run_id, "study": run.study_id}
        refused = _("Run %(run)s belongs to study %(study)s and can only be deleted with it.", **values)
    elif not (RunStatus(run.status).terminal or run.imported):
        refused = _("Run %(run)s is %(status)s: cancel it first.", run=run_id, status=run.status)
    which = RunRow.id == run_id
    return _deletion(session, which, refused or _kept(session, which))


def of_study(session: Session, study_id: int) -> Deletion:
    """What deleting a study removes. Raises NotFound."""
    study, refused = studies.get(session, study_id), ""
    if study.tuning or runs.any_live(session, study_id):
        refused = _("Study %(study)s has not ended: cancel it first.", study=study_id)
    which = RunRow.study_id == study_id
    return _deletion(session, which, refused or _kept(session, which))


def of_collection(session: Session, collection_id: int) -> Deletion:
    """What deleting a collection of imported runs removes. Raises NotFound."""
    collections.get(session, collection_id)
    return _deletion(session, RunRow.collection_id == collection_id)


def of_model(session: Session, name: str) -> Deletion:
    """Whether a base model can be deleted. The workers keep its weights. Raises NotFound."""
    model_id = base_models.get(session, name).id
    uses, refused = base_models.used_by(session, model_id), ""
    if uses.runs or uses.studies:
        values = {"name": name, "studies": uses.studies, "runs": uses.runs}
        refused = _("%(name)s is in use (studies: %(studies)s, runs: %(runs)s). Delete them first.", **values)
    elif base_models.in_use(session, model_id):
        refused = _("Other users use %(name)s in private. Ask an admin.", name=name)
    return Deletion(0, 0, 0, refused)


def delete_run(session: Session, files: Files, run_id: int) -> None:
    """Delete a run that belongs to no study. Raises NotFound, and Conflict while it is queued or running here: a script
    that reports a run from elsewhere is told that it is gone."""
    which = RunRow.id == run_id
    require_change(session, runs.get(session, run_id))
    rows.lock(session, which)
    of_run(session, run_id).require()
    _delete_runs(session, files, which)
    audit.record(session, Action.DELETE_RUN, run_id)


def delete_study(session: Session, files: Files, study_id: int) -> None:
    """Delete a study with its runs. Raises NotFound, and Conflict while one of them is queued or running."""
    study = studies.get(session, study_id, lock=True)
    require_change(session, study)
    which = RunRow.study_id == study_id
    rows.lock(session, which)
    of_study(session, study_id).require()
    _delete_runs(session, files, which)
    rows.delete_row(session, study)
    audit.record(session, Action.DELETE_STUDY, study_id, name=study.name)


def delete_collection(session: Session, files: Files, collection_id: int) -> None:
    """Delete a collection with its imported runs. Raises NotFound."""
    collection = collections.get(session, collection_id, lock=True)
    require_change(session, collection)
    _delete_runs(session, files, RunRow.collection_id == collection_id)
    rows.delete_row(session, collection)
    audit.record(session, Action.DELETE_COLLECTION, collection_id, name=collection.name)


def delete_model(session: Session, name: str) -> None:
    """Delete a base model that is not in use. Raises NotFound and Conflict."""
    row = base_models.get(session, name)
    require_change(session, row)
    of_model(session, name).require()
    try:
        rows.delete_row(session, row)
    except IntegrityError:
        raise Conflict(_("A run that uses %(name)s has just been submitted.", name=name)) from None
    audit.record(session, Action.DELETE_MODEL, name)


def of_dataset(session: Session, row: DatasetRow) -> Deletion:
    """Whether a version of a dataset can be deleted. Its upload stays."""
    uses, refused = datasets.used_by(session, row.id), ""
    if uses.runs or uses.studies:
        values = {"reference": row.reference, "studies": uses.studies, "runs": uses.runs}
        refused = _("%(reference)s is in use (studies: %(studies)s, runs: %(runs)s). Delete them first.", **values)
    elif datasets.in_use(session, row.id):
        refused = _("Other users use %(name)s in private. Ask an admin.", name=row.reference)
    elif row.status == "ready" and (runs_on := datasets.forgetting_on(session, row.name)):
        refused = _("Runs measure forgetting on %(name)s (%(runs)s). Delete them first.", name=row.name, runs=runs_on)
    elif row.status == "ready" and datasets.is_general_text(session, row.name):
        refused = _("Other users use %(name)s in private. Ask an admin.", name=row.reference)
    return Deletion(0, 0, 0, refused)


def of_upload(session: Session, upload_id: int) -> Deletion:
    """What deleting an upload removes. Raises NotFound."""
    row, refused = uploads.get(session, upload_id), ""
    if versions := datasets.of_upload(session, upload_id):
        names = ", ".join(version.reference for version in versions)
        refused = _("%(names)s was made from this upload. Delete that first.", names=names)
    else:
        refused = next((why for hook in all_hooks() if (why := hook.keeps_upload(session, upload_id))), "")
    return Deletion(0, len(row.parts), row.bytes, refused)


def delete_dataset(session: Session, files: Files, dataset_id: int) -> None:
    """Delete a version of a dataset. Raises NotFound, and Conflict while runs or studies use it."""
    row = datasets.get(session, dataset_id)
    require_change(session, row)
    of_dataset(session, row).require()
    try:
        rows.delete_row(session, row)
    except IntegrityError:
        raise Conflict(_("A run that uses %(name)s has just been submitted.", name=row.reference)) from None
    audit.record(session, Action.DELETE_DATASET, row.reference)
    if row.file and not datasets.with_file(session, row.file):
        estimates.forget_baselines(session, row.file)
        after_commit(session, partial(files.discard, row.file))


def delete_upload(session: Session, files: Files, upload_id: int) -> None:
    """Delete an upload and its files, unless another upload has them too. Raises NotFound, and Conflict while datasets
    are made of it or something waits for it. With the last of its files goes what was joined of them, unless that is in
    use."""
    row = uploads.get(session, upload_id, lock=True)
    require_change(session, row)
    of_upload(session, upload_id).require()
    _delete_upload(session, files, row)
    for joined in uploads.with_parts(session, {part.sha256 for part in row.parts}, row.owner_id):
        if len(joined.parts) < 2 or not any(hook.joined_upload(session, joined.id) for hook in all_hooks()):
            continue
        left = uploads.any_single(session, {part.sha256 for part in joined.parts}, row.owner_id)
        if not left and not of_upload(session, joined.id).refused:
            _delete_upload(session, files, joined)


def orphaned_folders(session: Session, folders: Iterable[str]) -> list[str]:
    """Run folders in the files store whose runs were deleted."""
    ids = [int(name) for folder in folders if (name := folder.removeprefix(f"{RUNS}/")).isdecimal()]
    return [run_folder(run_id) for run_id in sorted(rows.missing_runs(session, ids))]


def stray_files(session: Session, names: Iterable[str]) -> dict[str, list[str]]:
    """Files below the runs' folders, of attempts to train that are over without a result, and what hooks add, by the
    folder that can be removed. A deleted run's are in its own folder (`orphaned_folders`)."""
    names = list(names)
    ended = rows.kept_attempts(session)
    strays = defaultdict[str, list[str]](list)
    for name in names:
        trained = TRAINED.fullmatch(name)
        if trained and (run_id := int(trained["run"])) in ended and trained["attempt"] != str(ended[run_id]):
            strays[trained["folder"]].append(name)
    for hook in all_hooks():
        for folder, found in hook.strays(session, names).items():
            strays[folder].extend(found)
    return strays


def _kept(session: Session, which: ColumnElement[bool]) -> str:
    return next((why for hook in all_hooks() if (why := hook.keeps_runs(session, which))), "")


def _deletion(session: Session, which: ColumnElement[bool], refused: str = "") -> Deletion:
    return Deletion(*rows.contents(session, which), refused)


def _delete_upload(session: Session, files: Files, row: UploadRow) -> None:
    rows.delete_row(session, row)
    audit.record(session, Action.DELETE_UPLOAD, row.id, name=row.name)
    for part in unused(session, row.parts):
        after_commit(session, partial(files.discard, part.file))


def _delete_runs(session: Session, files: Files, which: ColumnElement[bool]) -> None:
    for run_id in rows.with_files(session, which):
        after_commit(session, partial(files.discard, run_folder(run_id)))
    for hook in all_hooks():
        hook.deleting_runs(session, which)
    rows.delete_runs(session, which)

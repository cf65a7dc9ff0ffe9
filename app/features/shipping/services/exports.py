"""Exports of a run's model: what can be exported, submit, claim, report, cancel, delete.

An attempt writes its files under a name of its own, and the row lists them only once all of them are complete.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.accounts.audit import Action
from app.domain.comparison.fairness.export_gate import ExportScores, gate
from app.domain.errors import Conflict, Invalid
from app.domain.messages import Message, _
from app.domain.models.exports import (
    SMALL_FILES_BYTES,
    ExportedFile,
    ExportFormat,
    too_large,
)
from app.domain.runs.job import TrainJob
from app.domain.runs.status import RunStatus
from app.features.shipping.queries import exports as model_exports
from app.features.shipping.queries import registry
from app.features.shipping.services.offers import offers
from app.features.shipping.services.work import EXPORTS
from app.features.shipping.tables import ModelExportRow
from app.services.models.trained import job_of, saved_weights
from app.services.users import audit, limits
from app.services.workers.work import Claimed
from app.store.data import queries as datasets
from app.store.database.deletion import delete_row, run_ids
from app.store.database.session import after_commit
from app.store.files.files import RUNS, Files, run_folder
from app.store.models import queries as base_models
from app.store.runs import artifacts, evaluations
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import ArtifactRow, RunRow

DEFAULT_MARGIN_POINTS = 1.0
"""Of a run that belongs to no study."""
EXPORTED = re.compile(rf"(?P<attempt>(?P<export>(?P<run>{RUNS}/\d+)/exports/\d+)/\d+)/.+")
"""A file of an export (`ModelExportRow.prefix`)."""


@dataclass(frozen=True)
class Claim(Claimed):
    """An export that this worker has, with everything that its job needs."""

    format: ExportFormat
    weights_bytes: int
    weights: Sequence[ArtifactRow]
    """The files that the run saved."""
    job: TrainJob
    """Its location is a reference (`reference_of`), its dataset's file a name in the files store."""
    predictions: str
    """The run's predictions file in the files store; empty if it has none."""
    folder: str
    """In the files store, of every attempt."""
    prefix: str
    """In the files store, of this attempt."""
    hub_user: int | None
    """The run's owner, if the base model opens to a user's hub token only."""

    @property
    def whole(self) -> bool:
        """The run saved the whole model."""
        return any(file.kind == "model" for file in self.weights)


def submit(session: Session, bell: Doorbell, files: Files, run_id: int, form: ExportFormat) -> ModelExportRow:
    """Queue an export; one that failed or was cancelled is replaced, also that of another user.

    Raises NotFound; Conflict for a run that has no weights, or has this export already; Invalid for a method that does
    not suit the format, and for a files store without room.
    """
    runs.lock(session, [run_id])
    run = runs.get(session, run_id)
    offer = next((offer for offer in offers(session, run) if offer.format == form), None)
    if offer is None:
        raise Conflict(_without_weights(run))
    if offer.refused:
        raise Invalid.of([offer.refused])
    assert offer.weights_bytes is not None  # noqa: S101 it is not refused
    refuse_full_disk(files, offer.weights_bytes)
    for row in EXPORTS.of(session, run_id):
        if row.form == form and row.status in ("failed", "cancelled"):
            _delete(session, files, row)
        elif row.form == form:
            values = {"run": run_id, "format": form.value, "status": row.status}
            raise Conflict(
                _("Run %(run)s already has the export %(format)s (%(status)s). Delete it to export again.", **values)
            )
    row = ModelExportRow(run_id=run_id, format=form.value, predicted_bytes=offer.weights_bytes)
    try:
        EXPORTS.submit(session, bell, row)
    except IntegrityError:
        raise Conflict(_("Run %(run)s has just been given this export.", run=run_id)) from None
    limits.require_storage(session, row.owner_id)
    audit.record(session, Action.SUBMIT_EXPORT, row.id, run=run_id, format=form.value)
    return row


def refuse_full_disk(files: Files, weights_bytes: int) -> None:
    """Raise Invalid if the files store is a directory whose disk has no room for an export."""
    needed, free = weights_bytes + SMALL_FILES_BYTES, files.free_bytes
    if free is not None and needed > free:
        raise Invalid.of([too_large(needed, free, _("the files store"))])


def begin(session: Session, export_id: int) -> Claim | None:
    """Claim an export. None if it has ended, or a live worker has it."""
    if (row := EXPORTS.claim(session, export_id)) is None:
        return None
    run = runs.get(session, row.run_id)
    model, dataset = base_models.by_id(session, run.base_model_id), datasets.by_id(session, run.dataset_id)
    assert model is not None and dataset is not None  # noqa: S101 foreign keys hold them
    predicted = artifacts.predictions_of(session, [run.id]).get(run.id)
    return Claim(
        id=row.id,
        epoch=row.epoch,
        format=row.form,
        weights_bytes=row.predicted_bytes,
        weights=saved_weights(session, run),
        job=job_of(run, model, dataset),
        predictions=predicted.file if predicted else "",
        folder=row.folder,
        prefix=row.prefix,
        hub_user=run.owner_id if model.restricted else None,
    )


def succeeded(session: Session, claim: Claim, files: Sequence[ExportedFile], scores: ExportScores) -> bool:
    """Write the files and the result of the gate. False as `progress`. Raises Conflict if run and export were scored on
    other items."""
    run_id = claim.job.run_id
    run = evaluations.test_scores(session, [run_id]).get((run_id, "adapted"))
    if run is None or run.items_hash != scores.items_hash:
        raise Conflict(_("Run %(run)s has no scores on the test items of this export.", run=run_id))
    result = gate(run.scores.tolist(), scores, margin(session, runs.get(session, run_id)), run.clusters)
    return EXPORTS.complete(
        session,
        claim,
        files_json=[file.model_dump() for file in files],
        stored_bytes=sum(file.bytes for file in files),
        gate_json=result.model_dump(mode="json"),
    )


def margin(session: Session, run: RunRow) -> float:
    """The margin of the run's study, or 1 point: in the metric's unit."""
    points = (
        studies.get(session, run.study_id).spec.margin_points if run.study_id is not None else DEFAULT_MARGIN_POINTS
    )
    return points / 100


def delete(session: Session, files: Files, export_id: int) -> None:
    """Delete an export and its files; a worker that has it stops. Raises NotFound, and Conflict while it is a candidate
    or the champion of a name."""
    row = EXPORTS.own(session, export_id)
    runs.lock(session, [row.run_id])  # as whatever registers it does
    if refused := registry.why_in_use(session, ModelExportRow.id == export_id):
        raise Conflict(refused)
    _delete(session, files, row)


def strays(session: Session, names: Sequence[str]) -> dict[str, list[str]]:
    """Of the files below the runs' folders, those of deleted exports and of attempts to export that are over without a
    result, by the folder that can be removed."""
    known = {row.folder: row for row in model_exports.everyone(session)}
    present = {run_folder(run_id) for run_id in run_ids(session)}
    found = defaultdict[str, list[str]](list)
    for name in names:
        if (match := EXPORTED.fullmatch(name)) and match["run"] in present:
            row = known.get(match["export"])
            if row is None:
                found[match["export"]].append(name)
            elif row.status not in ("running", "succeeded") or row.prefix != match["attempt"]:
                found[match["attempt"]].append(name)
    return found


def _delete(session: Session, files: Files, row: ModelExportRow) -> None:
    after_commit(session, partial(files.discard, row.folder))
    delete_row(session, row)
    audit.record(session, Action.DELETE_EXPORT, row.id, run=row.run_id, format=row.format)


def _without_weights(run: RunRow) -> Message:
    if run.imported:
        return _("Run %(run)s was imported, so its weights are elsewhere.", run=run.id)
    if run.status != RunStatus.SUCCEEDED:
        return _("Run %(run)s is %(status)s. Export a run that has succeeded.", run=run.id, status=run.status)
    return _("Run %(run)s has saved no weights: it is a trial. Export a run of the study.", run=run.id)

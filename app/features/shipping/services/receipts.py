"""The receipt of an export, from the store."""

from sqlalchemy.orm import Session

from app.domain.errors import Conflict
from app.domain.messages import _
from app.domain.models.exports import ExportedFile
from app.features.shipping.rules.receipts import Receipt, ReceiptData, ReceiptModel, Statement
from app.features.shipping.services.work import EXPORTS
from app.services.models.trained import saved_weights
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.runs import evaluations
from app.store.runs import queries as runs


def of_export(session: Session, export_id: int) -> Statement:
    """What was measured of an export; the same each time. Raises NotFound, and Conflict before it has succeeded."""
    row = EXPORTS.get(session, export_id)
    run = runs.get(session, row.run_id)
    result, gate = run.result, row.gate
    scored = evaluations.test_scores(session, [run.id]).get((run.id, "adapted"))
    if result is None or gate is None or row.ended_at is None or scored is None:
        raise Conflict(
            _("Export %(id)s is %(status)s, so there is no receipt: nothing was scored.", id=row.id, status=row.status)
        )
    model, dataset = base_models.by_id(session, run.base_model_id), datasets.by_id(session, run.dataset_id)
    assert model is not None and dataset is not None  # noqa: S101 foreign keys hold them
    receipt = Receipt(
        run=run.id,
        export=row.id,
        format=row.form,
        spec=run.spec.model_dump(mode="json"),
        base_model=ReceiptModel(
            name=model.name, hub_id=model.location if model.source == "hub" else "", revision=model.pinned
        ),
        dataset=ReceiptData(
            reference=dataset.reference,
            content_hash=dataset.content_hash,
            splits=result.data.splits if result.data else None,
            test_items=scored.items_hash,
        ),
        trained=[
            ExportedFile(name=file.name, bytes=file.bytes, sha256=file.sha256) for file in saved_weights(session, run)
        ],
        environment=result.environment,
        gate=gate,
        measured_at=row.ended_at,
    )
    return Statement.of(receipt, row.files)

"""Exports of runs' models over REST: formats, submit, progress, cancel, delete, and the files as one archive."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, Self

import structlog
from fastapi import APIRouter, Body
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.comparison.fairness.export_gate import ExportGate
from app.domain.errors import Conflict, Unavailable
from app.domain.messages import _
from app.domain.models.exports import ExportedFile, ExportFormat
from app.features.shipping.archive import archive, archive_bytes
from app.features.shipping.rules.receipts import RECEIPT_FILE, Envelope
from app.features.shipping.services import exports as service
from app.features.shipping.services import receipts
from app.features.shipping.services.offers import Offer, offers
from app.features.shipping.services.signing import key_id, public_pem, sign, signing_key
from app.features.shipping.services.work import EXPORTS
from app.features.shipping.tables import ModelExportRow
from app.services.users import audit
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import queries as runs
from app.web.api.examples import EXPORT
from app.web.api.work import WorkOut, add_work
from app.web.http.dependencies import Bell, Config, Db, Reading, RowId, Store
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader

router = APIRouter(tags=["exports"])
public_router = APIRouter(tags=["exports"])
"""Needs no login."""
log = structlog.get_logger()


class ExportRequest(BaseModel):
    """An export to write."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: ExportFormat


class ExportFormatOut(BaseModel):
    """A format in which a run can be exported, or why it cannot."""

    format: ExportFormat
    weights_bytes: int | None
    """Size of the weights, computed; null where it is refused."""
    disk_bytes: int | None
    """On the worker's disk while it exports, without missing files of the base model; null where it is refused."""
    seconds: float | None
    """How long it will take with the gate, by earlier exports or the run's clocks; null where nothing is known."""
    refused: str | None
    """What speaks against it, and the remedy."""

    @classmethod
    def of(cls, offer: Offer) -> Self:
        refused = str(offer.refused.sentence) if offer.refused else None
        return cls(
            format=offer.format,
            weights_bytes=offer.weights_bytes,
            disk_bytes=offer.disk_bytes,
            seconds=offer.seconds,
            refused=refused,
        )


class ExportOut(WorkOut):
    """An export of a run's model."""

    run_id: int
    format: ExportFormat
    predicted_bytes: int
    """Of the weights, computed before the export."""
    bytes: int
    """Of all files; 0 before it has succeeded."""
    files: list[ExportedFile]
    gate: ExportGate | None
    """Whether it scores as the run did; null before it has succeeded."""


class ReceiptKey(BaseModel):
    """The key with which this installation signs receipts."""

    id: str
    """SHA-256 of the 32 bytes of the public key."""
    algorithm: Literal["Ed25519"] = "Ed25519"
    pem: str
    """The public key."""


@router.get("/runs/{run_id}/export-formats", operation_id="listExportFormats", responses=problems(404))
def formats(session: Reading, run_id: int) -> list[ExportFormatOut]:
    """Every format with its size, or why it is refused; empty for a run that has saved no weights."""
    return [ExportFormatOut.of(offer) for offer in offers(session, runs.get(session, run_id))]


@router.post("/runs/{run_id}/exports", status_code=202, operation_id="exportRun", responses=problems(404, 409, 422))
def submit(
    db: Db,
    bell: Bell,
    files: Store,
    once: OnceByHeader,
    run_id: RowId,
    request: Annotated[ExportRequest, Body(openapi_examples=EXPORT)],
) -> ExportOut:
    """Have a worker export a run's model. A method that does not suit the format is refused (422), and so is an export
    for which the files store has no room; 409 for a run without weights, or with this export."""
    with db.transaction() as session:
        row = service.submit(session, bell, files, run_id, request.format)
        return once.keep(session, ExportOut.from_object(row))


add_work(
    router,
    EXPORTS,
    ExportOut,
    lambda _session, row: ExportOut.from_object(row),
    names=("Exports", "Export"),
    paths=("/runs/{run_id}/exports", "/exports/{export_id}"),
)


@router.delete("/exports/{export_id}", status_code=204, operation_id="deleteExport", responses=problems(404))
def delete(db: Db, files: Store, export_id: int) -> None:
    """Delete an export with its files; one that is being written is cancelled."""
    with db.transaction() as session:
        service.delete(session, files, export_id)


@public_router.get("/receipt-key", operation_id="getReceiptKey", responses=problems(400, 429, 503))
def receipt_key(settings: Config) -> ReceiptKey:
    """The public key with which this installation's receipts can be verified."""
    key = signing_key(settings).public_key()
    return ReceiptKey(id=key_id(key), pem=public_pem(key))


@router.get("/exports/{export_id}/receipt", operation_id="getReceipt", responses=problems(404, 409))
def receipt(session: Reading, settings: Config, export_id: int) -> Envelope:
    """What was measured of an export, with which model, data and code: an in-toto statement in a DSSE envelope, signed
    with Ed25519. 409 before the export has succeeded."""
    return sign(signing_key(settings), receipts.of_export(session, export_id))


@router.get(
    "/exports/{export_id}/archive",
    operation_id="downloadExport",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-tar": {}}}, **problems(404, 409)},
)
def download(session: Reading, db: Db, files: Store, settings: Config, export_id: int) -> StreamingResponse:
    """All files of an export with their checksums and its receipt, as a tar archive; 409 before it has succeeded. Where
    no receipt can be signed, the archive has none."""
    row = EXPORTS.get(session, export_id)
    if row.status != "succeeded":
        raise Conflict(_("Export %(id)s is %(status)s, so it has no files.", id=export_id, status=row.status))
    return _archived(session, db, files, settings, [row], f"run-{row.run_id}-{row.format}")


@router.get(
    "/runs/{run_id}/exports/archive",
    operation_id="downloadExports",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-tar": {}}}, **problems(404, 409)},
)
def download_all(session: Reading, db: Db, files: Store, settings: Config, run_id: RowId) -> StreamingResponse:
    """All exports of a run that have succeeded, as one tar archive with a folder for each; 409 without any."""
    runs.get(session, run_id)
    rows = [row for row in EXPORTS.of(session, run_id) if row.status == "succeeded"]
    if not rows:
        raise Conflict(_("Run %(run)s has no export that has succeeded.", run=run_id))
    return _archived(session, db, files, settings, rows, f"run-{run_id}-exports")


def _archived(
    session: Session, db: Database, files: Files, settings: Settings, rows: Sequence[ModelExportRow], name: str
) -> StreamingResponse:
    """An archive of exports, each in a folder of its own, with a receipt if the key can sign."""
    stored: list[tuple[str, int, str]] = []
    signed: dict[str, bytes] = {}
    for row in rows:
        folder = f"run-{row.run_id}-{row.format}"
        stored += [(f"{folder}/{file.name}", file.bytes, f"{row.prefix}/{file.name}") for file in row.files]
        try:
            receipt = sign(signing_key(settings), receipts.of_export(session, row.id)).encoded
            signed[f"{folder}/{RECEIPT_FILE}"] = receipt
            stored.append((f"{folder}/{RECEIPT_FILE}", len(receipt), ""))
        except Unavailable as error:
            log.warning("an export is downloaded without a receipt", export=row.id, why=error.message)
        audit.record_now(db, Action.DOWNLOAD_EXPORT, row.id, run=row.run_id, format=row.format)

    def members() -> Iterator[tuple[str, int, Iterator[bytes]]]:
        for path, size, place in stored:
            yield path, size, files.chunks(place) if place else iter([signed[path]])

    return StreamingResponse(
        archive(members()),
        media_type="application/x-tar",
        headers={
            "content-length": str(archive_bytes((path, size) for path, size, _place in stored)),
            "content-disposition": f'attachment; filename="{name}.tar"',
            "content-encoding": "identity",  # weights hardly compress, and it would cost the length
        },
    )

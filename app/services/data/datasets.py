"""Datasets: register rows under a name, as versions; from an upload, or from a program."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.accounts.audit import Action
from app.domain.data.dataset import DatasetFacts, Row
from app.domain.data.findings import Finding
from app.domain.data.guesses.mapping import unsupported_label
from app.domain.data.uploads import SourceScan
from app.domain.data.versions import DatasetRequest
from app.domain.errors import Conflict, FieldError, Invalid
from app.domain.messages import _
from app.domain.tasks import Format
from app.services.data import ingestion
from app.services.ownership import ownership
from app.services.users import audit, limits
from app.store.data import ingestion as claims
from app.store.data import queries as datasets
from app.store.data import uploads
from app.store.database.owned import inherited
from app.store.database.ownership import require_change
from app.store.files.files import Files
from app.store.files.rows_file import RowsFile, new_name
from app.store.tables import DatasetRow, now


def register(
    session: Session,
    files: Files,
    *,
    name: str,
    title: str,
    form: Format,
    rows: Sequence[Row],
    labels: Sequence[str] = (),
) -> DatasetRow:
    """Store rows that a program made. The same rows under the same name are the same version, even if there are newer
    ones. Raises Conflict if the name has only versions with other rows."""
    with TemporaryDirectory() as folder:
        local = Path(folder) / "rows.parquet"
        with RowsFile(local, form, labels) as written:
            written.write(rows)
        facts = written.facts
        known = datasets.versions(session, name)
        same = (version for version in known if version.file and version.content_hash == facts.content_hash)
        if version := next((version for version in same if version.facts.format == form), None):
            return version
        if known or datasets.is_taken(session, name):
            raise Conflict(_("The dataset %(name)r already exists with other rows. Choose another name.", name=name))
        file, size = new_name(facts), local.stat().st_size
        files.put(local, file)
    row = DatasetRow(name=name, title=title, **_ready(facts, file, size, ()))
    session.add(row)
    session.flush()
    return row


def shortest_reference(session: Session, row: DatasetRow) -> str:
    """The reference of a ready version in a spec: its name alone if that stands for this version today."""
    newest = datasets.by_name(session, row.name)
    return row.name if newest is not None and newest.id == row.id else row.reference


def prepare(session: Session, bell: Doorbell, request: DatasetRequest) -> DatasetRow:
    """Have a worker make a dataset, or its next version, from an upload. The same request again is the same version; a
    failed version is tried again under its number.

    Raises NotFound, Conflict while the upload is not read, and Invalid with the fields that do not fit it.
    """
    upload = uploads.get(session, request.upload_id, lock=True)
    require_change(session, upload)
    if upload.status == "failed":
        raise Conflict(_("Upload %(id)s could not be read: %(message)s", id=upload.id, message=upload.message))
    if (scan := upload.scan) is None:
        raise Conflict(_("Upload %(id)s is still being read. Try again once it is ready.", id=upload.id))
    _check(scan, request)
    known = datasets.versions(session, request.name)
    for row in known:
        same = (row.upload_id, row.mapping, row.splitting) == (upload.id, request.mapping, request.splitting)
        if same and row.status in ("preparing", "ready"):
            return row
    limits.require_space(session, upload.owner_id)
    newest = known[0] if known else None
    if newest is not None:
        require_change(session, newest)
        ownership.require_same(upload, newest)
    elif datasets.is_taken(session, request.name):
        raise Conflict(_("The name %(name)r is taken. Choose another name.", name=request.name))
    if newest is not None and newest.status != "ready":
        row = newest
    else:
        row = DatasetRow(name=request.name, version=newest.version + 1 if newest else 1, **inherited(newest or upload))
    row.title = request.title or (newest.title if newest else "")
    row.upload_id, row.mapping_json = upload.id, request.mapping.model_dump(mode="json")
    row.splitting_json = request.splitting.model_dump(mode="json")
    row.status, row.message, row.progress, row.findings_json, row.facts_json = "preparing", "", 0.0, [], {}
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        raise Conflict(_("Another request is creating %(reference)s. Try again.", reference=row.reference)) from None
    ingestion.ring(session, bell, row)
    audit.record(session, Action.CREATE_DATASET, row.reference, upload=upload.id)
    return row


def prepared(
    session: Session, claimed: DatasetRow, facts: DatasetFacts, file: str, size: int, findings: Sequence[Finding]
) -> bool:
    """Store that a version is ready; its file of `size` bytes is in the store. False if the claim has expired.
    Raises OverQuota if it does not fit the limit of the user."""
    limits.require_storage(session, claimed.owner_id, size)
    return claims.write(session, claimed, **_ready(facts, file, size, findings))


def blocked(session: Session, claimed: DatasetRow, findings: Sequence[Finding]) -> bool:
    """Store the findings that block a version. False if the claim has expired."""
    dumped = [finding.model_dump(mode="json") for finding in findings]
    return claims.write(session, claimed, status="blocked", findings_json=dumped)


def _ready(facts: DatasetFacts, file: str, size: int, findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "seen_at": now(),
        "status": "ready",
        "message": "",
        "progress": 1.0,
        "content_hash": facts.content_hash,
        "file": file,
        "stored_bytes": size,
        "facts_json": facts.model_dump(mode="json"),
        "findings_json": [finding.model_dump(mode="json") for finding in findings],
    }


def _check(scan: SourceScan, request: DatasetRequest) -> None:
    """Raise Invalid where the request does not fit what was read."""
    values = {column.name: list(column.values) for column in scan.columns}
    problems = [*request.mapping.problems(list(values)), *request.splitting.problems(list(scan.splits), values)]
    if request.splitting.column and request.splitting.column in request.mapping.columns.values():
        what = _("The column %(column)r names the splits and is also mapped", column=request.splitting.column)
        problems.append(FieldError("splitting.column", what, _("Choose another column for one of them")))
    label = request.mapping.columns.get("label")
    for column in scan.columns:
        if column.name == label and (refusal := unsupported_label(column)):
            problems.append(FieldError("mapping.columns.label", *refusal))
    if problems:
        raise Invalid.of(problems)

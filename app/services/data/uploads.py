"""Uploads: store bytes, have a worker read them, store what it found.

The web process never opens a file: it stores bytes, and a worker reads them in a separate process.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.accounts.audit import Action
from app.domain.accounts.ownership import Visibility
from app.domain.data.guesses.guessed_names import split_in_name
from app.domain.data.uploads import Part, ReadingOptions, SourceRequest, SourceScan, content_hash, shown_name
from app.domain.errors import Conflict, VeznaError
from app.domain.messages import _
from app.services.data import ingestion
from app.services.models.roots import below_a_root
from app.services.ownership import ownership
from app.services.users import audit, limits
from app.store.data import ingestion as claims
from app.store.data import queries as datasets
from app.store.data import uploads
from app.store.database.ownership import owner_of, require_change
from app.store.database.session import after_commit
from app.store.files.files import Files, Stored
from app.store.tables import UploadRow

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A revision that always stands for the same files."""
_AUTOMATIC = ReadingOptions()


def add_files(
    session: Session,
    bell: Doorbell,
    files: Files,
    received: Sequence[tuple[str, Stored]],
    options: ReadingOptions = _AUTOMATIC,
) -> UploadRow:
    """Make received files one upload (`train.csv` and `test.csv`: two splits), and have a worker read them. The same
    bytes again are the same upload, unless a dataset was made from it with other reading options. Raises Conflict if
    they are to be private and the team sees that upload, and OverQuota; then the files are removed."""
    try:
        return _add_files(session, bell, files, received, options)
    except VeznaError:
        for _name, stored in received:
            files.discard(stored.file)
        raise


def _add_files(
    session: Session, bell: Doorbell, files: Files, received: Sequence[tuple[str, Stored]], options: ReadingOptions
) -> UploadRow:
    owner_id = owner_of(session)
    parts = _once(session, files, _parts(received), owner_id)
    hashed = content_hash(parts)
    same = uploads.with_content(session, hashed, owner_id)
    for upload in sorted(same, key=lambda row: row.options != options):
        if upload.status == "failed" or upload.options != options:
            if datasets.of_upload(session, upload.id):
                continue
            _refuse_visible(session, upload)
            _read_again(session, bell, upload, options)
        _refuse_visible(session, upload)
        return upload
    limits.require_storage(session, owner_id, sum(part.bytes for part in parts))
    row = UploadRow(
        source="files",
        name=", ".join(part.name for part in parts)[:500],
        content_hash=hashed,
        bytes=sum(part.bytes for part in parts),
        parts_json=[part.model_dump() for part in parts],
        options_json=options.model_dump(),
    )
    return _add(session, bell, row)


def together(session: Session, bell: Doorbell, splits: Mapping[str, UploadRow]) -> UploadRow:
    """One upload of others with one file each, by the split that each is; private if one of them is. The same files
    again are the same upload, unless the team sees it and they are private. Raises OverQuota."""
    parts = [row.parts[0].model_copy(update={"split": split}) for split, row in splits.items()]
    hashed, owner_id, size = content_hash(parts), owner_of(session), sum(part.bytes for part in parts)
    private = any(row.private_to is not None for row in splits.values())
    visibility = Visibility.PRIVATE if private else Visibility.TEAM
    for upload in uploads.with_content(session, hashed, owner_id):
        if upload.visibility is not visibility:
            continue
        if upload.status == "failed":
            _read_again(session, bell, upload, _AUTOMATIC)
        return upload
    limits.require_storage(session, owner_id, size)
    row = UploadRow(source="files", name=", ".join(part.name for part in parts)[:500], content_hash=hashed, bytes=size)
    row.parts_json, row.options_json = [part.model_dump() for part in parts], _AUTOMATIC.model_dump()
    row.give(owner_id, visibility)
    return _add(session, bell, row)


def add_source(session: Session, bell: Doorbell, request: SourceRequest, roots: Sequence[Path]) -> UploadRow:
    """Have a worker fetch and read a directory or a hub dataset. Raises Invalid for a directory outside the roots.

    A source that is being fetched is not fetched twice. An earlier one is fetched again, since it may have changed.
    Raises Conflict as `add_files`.
    """
    location = request.location
    if request.source == "directory":
        location = str(below_a_root(session, request.location, roots, "VEZNA_DATA_ROOTS"))
    key = (request.source, location, request.config, request.revision, request.split)
    for upload in uploads.from_source(session, *key, owner_of(session)):
        if upload.status in ("reading", "failed") or COMMIT.fullmatch(request.revision):
            _refuse_visible(session, upload)
        if upload.status == "reading" or (upload.status == "read" and COMMIT.fullmatch(request.revision)):
            return upload
        if upload.status == "failed":
            _read_again(session, bell, upload, upload.options)
            return upload
    limits.require_space(session, owner_of(session))
    row = UploadRow(name=location, options_json=_AUTOMATIC.model_dump())
    row.source, row.location, row.config, row.revision, row.split = key
    return _add(session, bell, row)


def read_again(session: Session, bell: Doorbell, upload_id: int, options: ReadingOptions) -> UploadRow:
    """Read an upload with other options. Raises NotFound, and Conflict once a dataset was made of it."""
    row = uploads.get(session, upload_id, lock=True)
    require_change(session, row)
    if versions := datasets.of_upload(session, upload_id):
        names = ", ".join(version.reference for version in versions)
        raise Conflict(
            _(
                "%(names)s was made from this upload with its present reading options. Upload the file again to "
                "read it with others.",
                names=names,
            )
        )
    _read_again(session, bell, row, options)
    return row


def unused(session: Session, parts: Sequence[Part]) -> list[Part]:
    """The files among these that no upload has."""
    kept = uploads.named_files(session)
    return [part for part in parts if part.file not in kept]


def fetched(
    session: Session, files: Files, claimed: UploadRow, fresh: Sequence[Part], revision: str
) -> list[Part] | None:
    """Store the files of a directory or a hub dataset; returns them as stored, or None if the claim has
    expired. Raises OverQuota if they do not fit the limit of the user."""
    more = sum(part.bytes for part in fresh) - claimed.bytes  # which count already, if it was fetched before
    if more > 0:
        limits.require_storage(session, claimed.owner_id, more)
    parts = _once(session, files, fresh, claimed.owner_id)
    noted = claims.write(
        session,
        claimed,
        parts_json=[part.model_dump() for part in parts],
        content_hash=content_hash(parts),
        bytes=sum(part.bytes for part in parts),
        revision=revision,
    )
    return parts if noted else None


def read(session: Session, claimed: UploadRow, scan: SourceScan) -> bool:
    """Store what was found. False if the claim has expired."""
    return claims.write(
        session,
        claimed,
        status="read",
        message="",
        progress=1.0,
        rows_read=scan.rows,
        scan_json=scan.model_dump(mode="json"),
    )


def _add(session: Session, bell: Doorbell, row: UploadRow) -> UploadRow:
    session.add(row)
    ingestion.ring(session, bell, row)
    audit.record(session, Action.ADD_UPLOAD, row.id, name=row.name, source=row.source, bytes=row.bytes or None)
    return row


def _refuse_visible(session: Session, row: UploadRow) -> None:
    ownership.refuse_visible(session, row, _("Upload %(id)s has the same content", id=row.id))


def _read_again(session: Session, bell: Doorbell, row: UploadRow, options: ReadingOptions) -> None:
    row.options_json = options.model_dump()
    row.status, row.message, row.scan_json, row.progress, row.rows_read = "reading", "", None, 0.0, 0
    ingestion.ring(session, bell, row)
    audit.record(session, Action.READ_UPLOAD, row.id, name=row.name)


def _once(session: Session, files: Files, fresh: Sequence[Part], owner_id: int | None) -> list[Part]:
    """New files. If another upload of the owner has a file with the same bytes, that file is used and the new one is
    deleted. An upload whose file was lost gets the new one."""
    hashes = {part.sha256 for part in fresh}
    rows = uploads.with_parts(session, hashes, owner_id)
    existing = {part.file for row in rows for part in row.parts if part.sha256 in hashes and files.exists(part.file)}
    known = {part.sha256: part.file for row in rows for part in row.parts if part.file in existing}
    stored_parts = [part.model_copy(update={"file": known.get(part.sha256, part.file)}) for part in fresh]
    at = {part.sha256: part.file for part in stored_parts}
    for row in rows:
        lost = {part.file: at[part.sha256] for part in row.parts if part.sha256 in hashes and part.file not in existing}
        if lost:
            parts = [part.model_copy(update={"file": lost.get(part.file, part.file)}) for part in row.parts]
            row.parts_json = [part.model_dump() for part in parts]
    for part in fresh:
        if part.sha256 in known:
            after_commit(session, partial(files.discard, part.file))
    return stored_parts


def _parts(received: Sequence[tuple[str, Stored]]) -> list[Part]:
    parts = []
    for file_name, stored in received:
        name = shown_name(file_name)
        split = (split_in_name(name) or name) if len(received) > 1 else ""
        parts.append(Part(name=name, sha256=stored.sha256, bytes=stored.bytes, split=split, file=stored.file))
    return sorted(parts, key=lambda part: (part.split, part.name))

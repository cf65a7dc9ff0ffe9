"""Uploads: those that wait to be read, and the claims on them."""

from collections.abc import Sequence, Set

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.data.uploads import Part
from app.domain.messages import _
from app.store.database.ownership import EVERY_OWNER
from app.store.database.rows import find_row, get_row
from app.store.tables import DatasetRow, UploadRow


def get(session: Session, upload_id: int, *, lock: bool = False) -> UploadRow:
    """An upload, locked until the transaction ends if it is to be changed. Raises NotFound."""
    return get_row(
        session, UploadRow, upload_id, _("There is no upload %(upload_id)s.", upload_id=upload_id), lock=lock
    )


def find(session: Session, upload_id: int, *, lock: bool = False) -> UploadRow | None:
    """An upload, if there is one; with `lock`, locked until the transaction ends."""
    return find_row(session, UploadRow, upload_id, lock=lock)


def newest(session: Session) -> list[UploadRow]:
    return list(session.scalars(select(UploadRow).order_by(UploadRow.id.desc())))


def without_dataset(session: Session) -> list[UploadRow]:
    """Uploads without a dataset, the newest first."""
    with_dataset = select(DatasetRow.upload_id).where(DatasetRow.upload_id.is_not(None))
    return list(
        session.scalars(select(UploadRow).where(UploadRow.id.not_in(with_dataset)).order_by(UploadRow.id.desc()))
    )


def with_content(session: Session, content_hash: str, owner_id: int | None) -> list[UploadRow]:
    """The uploads of an owner with some content, locked: one, or one for each set of reading options that a dataset
    uses."""
    query = select(UploadRow).where(UploadRow.content_hash == content_hash, UploadRow.source == "files")
    query = query.where(UploadRow.owner_id.is_not_distinct_from(owner_id))
    return list(session.scalars(query.order_by(UploadRow.id).with_for_update()))


def with_parts(session: Session, hashes: Set[str], owner_id: int | None) -> list[UploadRow]:
    """The uploads of an owner that have a file with one of these contents (SHA-256), locked. Files are not shared with
    other owners: who sends a file would learn whether another has it."""
    own = UploadRow.owner_id.is_not_distinct_from(owner_id)
    parts = session.execute(select(UploadRow.id, UploadRow.parts_json).where(own)).all()
    ids = [which for which, files in parts if any(file["sha256"] in hashes for file in files)]
    query = select(UploadRow).where(UploadRow.id.in_(ids)).order_by(UploadRow.id)
    return list(session.scalars(query.with_for_update()))


def any_single(session: Session, hashes: Set[str], owner_id: int | None) -> bool:
    """Whether an owner has an upload of one file, with one of these contents (SHA-256)."""
    own = UploadRow.owner_id.is_not_distinct_from(owner_id)
    parts = session.scalars(select(UploadRow.parts_json).where(own))
    return any(len(files) == 1 and files[0]["sha256"] in hashes for files in parts)


def named_files(session: Session) -> set[str]:
    """The names of all stored files of uploads, visible or not."""
    stored = session.scalars(select(UploadRow.parts_json).execution_options(**EVERY_OWNER))
    return {Part.model_validate(part).file for parts in stored for part in parts}


def from_source(
    session: Session, source: str, location: str, config: str, revision: str, split: str, owner_id: int | None
) -> Sequence[UploadRow]:
    """An owner's uploads of a directory or a hub dataset, the newest first."""
    query = select(UploadRow).where(
        UploadRow.owner_id.is_not_distinct_from(owner_id),
        UploadRow.source == source,
        UploadRow.location == location,
        UploadRow.config == config,
        UploadRow.split == split,
        UploadRow.revision == revision,
    )
    return list(session.scalars(query.order_by(UploadRow.id.desc())))

"""Bring results from elsewhere in, as runs that are marked as imported. What is there already is not added again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.domain.errors import Invalid
from app.domain.imports import MOST_FILES, NamedText, Read, Refused, hash_of, read
from app.domain.outside import OutsideResult
from app.domain.runs import RunStatus
from app.store.queries import collections, evaluations
from app.store.tables import CollectionRow, RunRow, now

DEFAULT_COLLECTION = "imported"


@dataclass
class Imported:
    """What became of some files."""

    collection: CollectionRow | None
    """None where no file could be taken, so that there is none."""
    added: list[int] = field(default_factory=list)
    """The new runs."""
    known: list[int] = field(default_factory=list)
    """Runs that were there already, of files brought again."""
    refused: list[Refused] = field(default_factory=list)
    """Files of which nothing was taken."""


@dataclass(frozen=True)
class Sorted:
    """Files that were looked at: what can be taken of them, and what cannot."""

    taken: tuple[Read, ...]
    refused: tuple[Refused, ...]


def look_at(files: Sequence[NamedText], results: Sequence[OutsideResult] = ()) -> Sorted:
    """Read every file, before anything is written: a file is taken whole or refused with its sentences.

    Raises Invalid where there are no files or too many.
    """
    if not files and not results:
        raise Invalid.field("files", "there is no file", "give at least one file of results")
    if len(files) > MOST_FILES:
        raise Invalid.field(
            "files",
            f"there are {len(files)} files",
            f"at most {MOST_FILES} at once: `vezna import` sends more in parts",
        )
    taken = [Read(result, hash_of(result)) for result in results]
    refused: list[Refused] = []
    for place, file in enumerate(files):
        try:
            taken += read(file)
        except Refused as error:
            error.place = place
            refused.append(error)
    return Sorted(tuple(taken), tuple(refused))


def bring_in(session: Session, files: Sorted, collection: str) -> Imported:
    """Put what can be taken into a collection, each result once. Where nothing can be taken there is no collection."""
    if not files.taken:
        return Imported(None, refused=list(files.refused))
    found = Imported(_collection(session, collection), refused=list(files.refused))
    assert found.collection is not None  # noqa: S101
    there = collections.known(session, found.collection.id, [one.content_hash for one in files.taken])
    for one in files.taken:
        if one.content_hash in there:
            found.known.append(there[one.content_hash])
            continue
        row = _run(one, found.collection)
        session.add(row)
        session.flush()
        _keep_scores(session, row, one.result)
        there[one.content_hash] = row.id
        found.added.append(row.id)
    return found


def _collection(session: Session, name: str) -> CollectionRow:
    """Locked, so that two that bring the same results at once add them once."""
    row = collections.by_name(session, name, lock=True)
    if row is None:
        try:
            with session.begin_nested():
                session.add(CollectionRow(name=name))
        except IntegrityError:
            pass  # another has just made it
        row = collections.by_name(session, name, lock=True)
    assert row is not None  # noqa: S101
    return row


def _run(one: Read, collection: CollectionRow) -> RunRow:
    result, at = one.result, now()
    kept = result.model_copy(update={"items": result.n, "item_scores": None})
    seconds = result.train_seconds
    return RunRow(
        arm=result.label,
        seed=result.seed,
        method_kind=result.kind,
        learning_rate=result.learning_rate,
        spec_json={},
        collection_id=collection.id,
        outside_json=kept.model_dump(mode="json"),
        outside_hash=one.content_hash,
        status=RunStatus.SUCCEEDED.value,
        queued_at=at,
        finished_at=at,
        step=min(result.steps or 0, 2**31 - 1),
        train_seconds=seconds,
        metric=result.metric,
        score=result.score,
        trainable_parameters=result.trainable_parameters,
        total_parameters=result.total_parameters,
        peak_bytes=result.peak_bytes,
        artifact_bytes=result.file_bytes,
        tokens_per_second=result.tokens / seconds if result.tokens and seconds else None,
        device_name=result.device,
        precision=result.precision,
        libraries=result.libraries[:100] or None,
    )


def _keep_scores(session: Session, row: RunRow, result: OutsideResult) -> None:
    """The items' scores, as those of our own runs are kept: equal names in one order are the same items."""
    if result.item_scores is None:
        return
    evaluations.add_outside(session, row.id, result.metric, result.score, result.item_scores, row.step)

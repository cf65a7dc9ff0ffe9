"""The queue: which runs wait, in which order, and for which a worker is rung.

Workers and the sweep read it for all users. What a page shows of it goes through `app.services.workers.queue_view`,
which names no run that its viewer may not see."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from app.domain.runs.status import RunStatus
from app.store.database.ownership import EVERY_OWNER
from app.store.database.queued import IS_WAITING
from app.store.database.rows import affected, changed
from app.store.runs.queries import HERE, LIVE
from app.store.tables import RunRow, UserRow

QUEUED = RunRow.status == RunStatus.QUEUED.value
ORDER = RunRow.precedence, RunRow.place, RunRow.id
"""Order of an owner's runs."""


class Head(NamedTuple):
    """The first waiting run of an owner."""

    precedence: int
    run_id: int


class WaitingRun(NamedTuple):
    """A run in its owner's queue."""

    run_id: int
    owner_id: int | None
    precedence: int
    reserved: float
    """Device-seconds that it is predicted to take."""


def heads(session: Session) -> dict[int, Head]:
    """The first waiting run of each user that has one, by user: one look into the index of waiting runs for each user,
    however many wait."""
    run = aliased(RunRow)
    first = select(RunRow.id).where(IS_WAITING, RunRow.owner_id == UserRow.id).order_by(*ORDER).limit(1)
    of_user = select(first.correlate(UserRow).scalar_subquery().label("run_id")).select_from(UserRow).subquery()
    query = select(run.owner_id, run.precedence, run.id).join(of_user, of_user.c.run_id == run.id)
    rows = session.execute(query.execution_options(**EVERY_OWNER))
    return {owner_id: Head(precedence, run_id) for owner_id, precedence, run_id in rows if owner_id is not None}


def head(session: Session, owner_id: int | None, but: Collection[int] = ()) -> Head | None:
    """The first waiting run of an owner, `but` for some; None: of the runs without an owner."""
    query = select(RunRow.precedence, RunRow.id).where(IS_WAITING, _of(owner_id), RunRow.id.not_in(but))
    row = session.execute(query.order_by(*ORDER).limit(1).execution_options(**EVERY_OWNER)).first()
    return Head(*row) if row else None


def first_of_each(session: Session, limit: int) -> list[WaitingRun]:
    """The first waiting runs of each owner, in the order of each owner's queue."""
    number = func.row_number().over(partition_by=RunRow.owner_id, order_by=ORDER).label("number")
    columns = RunRow.id, RunRow.owner_id, RunRow.precedence, RunRow.reserved_seconds
    numbered = select(*columns, number).where(IS_WAITING).subquery()
    query = select(*numbered.c).where(numbered.c.number <= limit).order_by(numbered.c.number)
    rows = session.execute(query.execution_options(**EVERY_OWNER))
    return [WaitingRun(run_id, owner_id, precedence, kept) for run_id, owner_id, precedence, kept, _number in rows]


def counts(session: Session) -> tuple[int, int]:
    """How many runs wait, and how many are paused, of all users."""
    query = select(RunRow.paused, func.count()).where(QUEUED).group_by(RunRow.paused)
    found = {bool(paused): count for paused, count in session.execute(query.execution_options(**EVERY_OWNER))}
    return found.get(False, 0), found.get(True, 0)


def paused(session: Session, limit: int) -> list[RunRow]:
    """Paused runs that the session's viewer sees, the oldest first."""
    query = select(RunRow).where(QUEUED, RunRow.paused).order_by(RunRow.id).limit(limit)
    return list(session.scalars(query))


def place_in_queue(session: Session, run: RunRow) -> int:
    """A waiting run's position in its owner's queue, from 1; without an owner, in that of all."""
    earlier = or_(
        RunRow.precedence < run.precedence,
        and_(RunRow.precedence == run.precedence, RunRow.place < run.place),
        and_(RunRow.precedence == run.precedence, RunRow.place == run.place, RunRow.id < run.id),
    )
    query = select(func.count()).select_from(RunRow).where(IS_WAITING, _of(run.owner_id), earlier)
    return int(session.scalar(query.execution_options(**EVERY_OWNER)) or 0) + 1


def next_queued(session: Session, owner_id: int, *, limit: int) -> list[int]:
    """The waiting runs of a user that are next, locked until the transaction ends; without those that another
    transaction has locked."""
    query = select(RunRow.id).where(IS_WAITING, RunRow.owner_id == owner_id)
    query = query.order_by(*ORDER).limit(limit).with_for_update(skip_locked=True, key_share=True)
    return list(session.scalars(query.execution_options(**EVERY_OWNER)))


def lock_companions(session: Session, like: RunRow) -> list[RunRow]:
    """Waiting runs that may train together with one, as far as its row says: of the same arm, and never claimed before;
    trials of the same round and seed, or seeds once another one has succeeded or is running outside of any group, which
    gives the arm its time and memory. Oldest first, locked until the transaction ends; a row that another transaction
    holds is left out."""
    alike: list[ColumnElement[bool]]
    of_arm = RunRow.study_id == like.study_id, RunRow.arm == like.arm
    if like.trial_round is None:
        alike = [RunRow.trial_round.is_(None)]
        alone = select(RunRow.id).where(*of_arm, *alike, RunRow.id != like.id, RunRow.shared_seconds.is_(None))
        going = RunRow.status.in_((RunStatus.RUNNING.value, RunStatus.SUCCEEDED.value))
        if session.scalar(alone.where(going).limit(1)) is None:
            return []
    else:
        alike = [RunRow.trial_round == like.trial_round, RunRow.seed == like.seed]
    query = (
        select(RunRow)
        .where(*of_arm, *alike, QUEUED, ~RunRow.paused, RunRow.epoch == 0)
        .where(RunRow.cancel_requested_at.is_(None))
        .order_by(RunRow.id)
        .with_for_update(skip_locked=True)
    )
    return list(session.scalars(query))


def lock_to_move(
    session: Session, owner_id: int | None, *, run_id: int | None = None, study_id: int | None = None
) -> None:
    """Lock the queued runs of an owner, and what `live_of` locks, until the transaction ends: all of them in one order,
    by id, so that two transactions that move or change runs never wait for one another."""
    which = or_(and_(QUEUED, _of(owner_id)), _live(run_id, study_id))
    session.execute(select(RunRow.id).where(which).order_by(RunRow.id).with_for_update(key_share=True))


def queued_of(session: Session, owner_id: int | None, precedence: int) -> list[RunRow]:
    """The queued runs of an owner with a precedence, paused ones too, in the order of their places."""
    query = select(RunRow).where(QUEUED, _of(owner_id), RunRow.precedence == precedence).order_by(*ORDER)
    return list(session.scalars(query, execution_options={"populate_existing": True}))


def set_places(session: Session, places: Mapping[int, int]) -> None:
    """Give queued runs other places, by id."""
    if places:
        query = update(RunRow.__table__).where(RunRow.__table__.c.id == bindparam("run"))  # type: ignore[arg-type]
        values = [{"run": run_id, "new_place": place} for run_id, place in sorted(places.items())]
        session.connection().execute(query.values(place=bindparam("new_place")), values)


def live_of(session: Session, *, run_id: int | None = None, study_id: int | None = None) -> list[RunRow]:
    """A run, or the runs of a study, that are queued or running here; locked by id until the transaction ends."""
    query = select(RunRow).where(_live(run_id, study_id)).order_by(RunRow.id)
    options = {"populate_existing": True}
    return list(session.scalars(query.with_for_update(key_share=True), execution_options=options))


def any_paused(session: Session, study_id: int) -> bool:
    """Whether a run of a study that is queued or running here is paused."""
    query = select(RunRow.id).where(_live(None, study_id), RunRow.paused).limit(1)
    return session.scalar(query) is not None


def set_paused(session: Session, run_ids: Sequence[int], paused: bool) -> None:
    """Pause or resume runs that are queued or running."""
    query = update(RunRow).where(RunRow.id.in_(run_ids), RunRow.status.in_(LIVE))
    affected(session, query.values(paused=paused))


def set_precedence(session: Session, run_ids: Sequence[int], precedence: int) -> None:
    """Give runs that are queued or running another precedence."""
    query = update(RunRow).where(RunRow.id.in_(run_ids), RunRow.status.in_(LIVE))
    affected(session, query.values(precedence=precedence))


def pause_requested(session: Session, run_id: int) -> bool:
    return bool(session.scalar(select(RunRow.paused).where(RunRow.id == run_id)))


def to_ring_again(session: Session, rung_before: datetime, *, rooms: Mapping[int, int], lock: bool = True) -> list[int]:
    """Ids of waiting runs for which no worker was rung since a time, oldest first: of a user in `rooms`, the first so
    many of the user's queue. With `lock` they are locked until the transaction ends, and those that another transaction
    has locked, which rings for them or claims them, are not among them."""
    stale = IS_WAITING, RunRow.rung_at.is_(None) | (RunRow.rung_at < rung_before)
    anyone = select(RunRow.id).where(*stale).order_by(RunRow.id)
    if rooms:
        anyone = anyone.where(RunRow.owner_id.is_(None) | RunRow.owner_id.not_in(list(rooms)))
    queries = [anyone]
    for owner_id, room in rooms.items():
        if room > 0:
            queries.append(select(RunRow.id).where(*stale, RunRow.owner_id == owner_id).order_by(*ORDER).limit(room))
    if lock:
        queries = [query.with_for_update(skip_locked=True) for query in queries]
    return sorted(run_id for query in queries for run_id in session.scalars(query))


def to_ring(session: Session, run_id: int) -> bool:
    """Have the next sweep ring for a queued run, however short a time ago that was done. False if it is not queued."""
    return changed(session, update(RunRow).where(RunRow.id == run_id, QUEUED).values(rung_at=None))


def unrung(session: Session, *, limit: int) -> list[int]:
    """Ids of waiting runs that were refused since the last ring for them, oldest first, locked until the transaction
    ends; without those that another transaction has locked, which rings for them or claims them."""
    query = select(RunRow.id).where(IS_WAITING, RunRow.rung_at.is_(None))
    return list(session.scalars(query.order_by(RunRow.id).limit(limit).with_for_update(skip_locked=True)))


def rung(session: Session, run_ids: Sequence[int], at: datetime) -> None:
    """Record when doorbells were rung."""
    if run_ids:
        session.execute(
            update(RunRow).where(RunRow.id.in_(run_ids)).values(rung_at=at),
            execution_options={"synchronize_session": False},
        )


def forget_rings(session: Session, run_ids: Iterable[int]) -> None:
    """Have the next sweep ring for some queued runs."""
    query = update(RunRow).where(RunRow.id.in_(list(run_ids)), QUEUED)
    affected(session, query.values(rung_at=None).execution_options(**EVERY_OWNER))


def _live(run_id: int | None, study_id: int | None) -> ColumnElement[bool]:
    which = RunRow.id == run_id if run_id is not None else RunRow.study_id == study_id
    return and_(which, RunRow.status.in_(LIVE), HERE)


def _of(owner_id: int | None) -> ColumnElement[bool]:
    return RunRow.owner_id.is_(None) if owner_id is None else RunRow.owner_id == owner_id

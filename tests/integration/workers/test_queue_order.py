"""The order of the queue: priorities, pauses, places, on SQLite and on PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from app.broker.queue import TRAIN
from app.domain.accounts.ownership import Viewer, Visibility
from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.domain.errors import Conflict, Forbidden, Invalid
from app.domain.runs.listing.queue import Priority, QueueChange
from app.features.quotas.rules import LimitChange
from app.features.quotas.services import quotas
from app.services.runs import attempts, runs
from app.services.studies import studies
from app.services.users import users
from app.services.workers import queue_order, queue_view, ringing
from app.services.workers.queue_view import QueueEntry
from app.settings import Settings
from app.store.database.session import Database
from app.store.tables import DeviceUsageRow, RunRow, now
from app.store.users import queries as user_queries
from app.store.workers import clock
from tests.features.quotas.test_quotas import submit_study
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import LEASE, claim, in_transaction, row, submit
from tests.support.rows.results import evaluation, result
from worker import tasks


@pytest.fixture
def pair(registered: Database) -> list[Database]:
    """The database as each of two members sees it."""
    with registered.transaction() as session:
        ids = [users.create(session, NewUser(email=f"{name}@example.org", role=Role.MEMBER)).id for name in "ab"]
    return [registered.seen_by(Viewer(user_id)) for user_id in ids]


@pytest.fixture
def admin(registered: Database, pair: list[Database]) -> Database:
    with registered.transaction() as session:
        user_id = users.create(session, NewUser(email="admin@example.org", role=Role.ADMIN)).id
    return registered.seen_by(Viewer(user_id, sees_all=True))


def change(db: Database, bell: SilentBell, run_id: int, **values: Any) -> None:
    in_transaction(db, lambda s: queue_order.change_run(s, bell, run_id, QueueChange.model_validate(values)))


def change_study(db: Database, bell: SilentBell, study_id: int, **values: Any) -> None:
    in_transaction(db, lambda s: queue_order.change_study(s, bell, study_id, QueueChange.model_validate(values)))


def taken(db: Database, settings: Settings, bell: SilentBell, rung: int) -> int | None:
    """The run that a worker takes when it hears a ring."""
    context: Any = SimpleNamespace(
        worker="w1", settings=settings, bell=bell, database=db, trainers=SimpleNamespace(gpus=None)
    )
    with db.transaction() as session:
        claims = tasks._claim(session, context, rung)
    return claims[0].run_id if claims else None


def entries(db: Database, limit: int = 50) -> list[QueueEntry]:
    with db.reading() as session:
        return list(queue_view.view(session, limit=limit).entries)


def of_study(db: Database, study_id: int) -> list[RunRow]:
    with db.reading() as session:
        return studies.progress(session, study_id).runs


def test_runs_start_in_the_order_that_their_owner_gives_them(
    registered: Database, pair: list[Database], bell: SilentBell, settings: Settings
) -> None:
    mine, [a, b, c, d] = pair[0], [submit(pair[0], bell) for _ in range(4)]
    change(mine, bell, c, move="first")
    change(mine, bell, a, move="last")
    change(mine, bell, d, before=b)
    assert [entry.run.id for entry in entries(mine) if entry.run] == [c, d, b, a]
    with mine.reading() as session:
        assert [runs.view(session, run_id).queue_position for run_id in (c, d, b, a)] == [1, 2, 3, 4]
    later = submit(mine, bell)
    assert [taken(registered, settings, bell, a) for _ in range(5)] == [c, d, b, a, later], "a later one comes last"
    with pytest.raises(Conflict, match="is running, so it has no place"):
        change(mine, bell, c, move="first")


def test_a_low_priority_waits_for_all_others_and_a_high_one_for_none(
    registered: Database, pair: list[Database], admin: Database, bell: SilentBell, settings: Settings
) -> None:
    first, second = (submit(pair[0], bell) for _ in range(2))
    other = submit(pair[1], bell)
    change(pair[0], bell, first, priority="low")
    with registered.transaction() as session:
        owner = row(registered, first).owner_id
        assert owner is not None
        session.add(DeviceUsageRow(user_id=owner, run_id=99, epoch=1, ended_at=now(), seconds=50.0))
    with pytest.raises(Forbidden, match="Only an admin may give a high priority"):
        change(pair[0], bell, second, priority="high")
    with pytest.raises(Forbidden):
        change(pair[1], bell, second, priority="low")
    assert [entry.run.id for entry in entries(admin) if entry.run] == [other, second, first]
    change(admin, bell, second, priority="high")
    shown = entries(admin)
    assert [(e.run.id if e.run else None, e.turn.value) for e in shown] == [
        (second, "raised"), (other, "later"), (first, "low")
    ]  # fmt: skip
    assert [taken(registered, settings, bell, other) for _ in range(3)] == [second, other, first]


def test_the_next_run_is_that_of_the_user_with_the_least_device_time(
    registered: Database, pair: list[Database], bell: SilentBell
) -> None:
    first, second = submit(pair[0], bell), submit(pair[1], bell)
    assert [(e.run.id if e.run else None, e.turn.value) for e in entries(pair[0])] == [
        (first, "share"), (second, "later")
    ]  # fmt: skip
    owner = row(registered, first).owner_id
    in_transaction(
        registered, lambda s: s.add(DeviceUsageRow(user_id=owner or 0, run_id=99, epoch=1, ended_at=now(), seconds=5.0))
    )
    assert [e.run.id for e in entries(pair[0]) if e.run] == [second, first]
    in_transaction(
        registered,
        lambda s: quotas.change_limits(
            s, user_queries.get(s, row(registered, second).owner_id or 0), LimitChange(concurrent_runs=0)
        ),
    )
    assert [(e.run.id if e.run else None, e.turn.value) for e in entries(pair[0])] == [
        (first, "share"), (second, "limit")
    ]  # fmt: skip


def test_private_runs_of_others_have_a_position_and_no_name(
    registered: Database, pair: list[Database], bell: SilentBell
) -> None:
    hidden = submit(pair[0].creating(Visibility.PRIVATE), bell)
    shown = submit(pair[1], bell)
    mine = {entry.position: entry for entry in entries(pair[1])}
    assert mine[1].run is None and mine[1].owner == mine[1].study_name == "" and not mine[1].may_change
    assert mine[2].run is not None and mine[2].run.id == shown and mine[2].owner == "b@example.org"
    theirs = entries(pair[0])[0]
    assert theirs.run is not None and theirs.run.id == hidden and theirs.may_change
    change(pair[0], bell, hidden, paused=True)
    assert [entry.run.id for entry in entries(pair[1]) if entry.run] == [shown]
    assert [(entry.position, entry.paused) for entry in entries(pair[0])] == [(1, False), (None, True)]


def test_a_paused_run_is_neither_claimed_nor_rung_for_until_it_is_resumed(
    registered: Database, pair: list[Database], bell: SilentBell, settings: Settings
) -> None:
    first, second = (submit(pair[0], bell) for _ in range(2))
    change(pair[0], bell, first, paused=True)
    assert taken(registered, settings, bell, first) == second
    assert taken(registered, settings, bell, first) is None and claim(registered, first) is None
    with registered.reading() as session:
        later = clock.now(session)
        assert first not in ringing.to_ring_again(session, later, lock=False)
        assert runs.view(session, first).queue_position is None
    bell.rung.clear()
    change(pair[0], bell, first, paused=False)
    assert bell.rung == [(TRAIN, first)]
    assert taken(registered, settings, bell, first) == first
    with registered.transaction() as session:
        runs.cancel(session, bell, first)
    in_transaction(registered, lambda s: s.get_one(RunRow, first)).status = "cancelled"


def test_an_ended_run_has_no_place(pair: list[Database], bell: SilentBell) -> None:
    run_id = submit(pair[0], bell)
    in_transaction(pair[0], lambda s: runs.cancel(s, bell, run_id))
    with pytest.raises(Conflict, match="has ended"):
        change(pair[0], bell, run_id, paused=True)


def test_a_paused_study_starts_nothing_and_queues_what_follows_its_trials_paused(
    registered: Database, pair: list[Database], bell: SilentBell
) -> None:
    study = submit_study(pair[0], bell, tuning="grid", arms=[{"method": {"kind": "full"}}], seeds=[0])
    trials = [run.id for run in of_study(registered, study)]
    going = claim(registered, trials[0])
    assert going is not None
    change_study(pair[0], bell, study, paused=True, priority="low")
    with registered.transaction() as session:
        assert attempts.report(session, going, 1, [], LEASE).pause, "the running one stops at a checkpoint"
    assert all(claim(registered, run_id) is None for run_id in trials[1:])
    change(pair[0], bell, trials[1], paused=False)
    change(pair[0], bell, trials[2], paused=False)
    reached = result().model_copy(update={"evaluations": [evaluation("adapted", "validation", 0.5)]})
    in_transaction(registered, lambda s: attempts.finish(s, bell, going, reached, {}))
    bell.rung.clear()
    for run_id in trials[1:]:
        mine = claim(registered, run_id)
        assert mine is not None
        in_transaction(registered, lambda s, m=mine: attempts.finish(s, bell, m, reached, {}))
    [counting] = [run for run in of_study(registered, study) if run.trial_round is None]
    assert counting.paused and counting.priority is Priority.LOW and bell.rung == []
    change_study(pair[0], bell, study, paused=False)
    assert bell.rung == [(TRAIN, counting.id)] and claim(registered, counting.id) is not None


def test_a_study_moves_with_all_its_waiting_runs(
    registered: Database, pair: list[Database], bell: SilentBell, settings: Settings
) -> None:
    single = submit(pair[0], bell)
    study = submit_study(pair[0], bell, seeds=[0])
    [one, two] = [run.id for run in of_study(registered, study)]
    change_study(pair[0], bell, study, move="first")
    assert [entry.run.id for entry in entries(pair[0]) if entry.run] == [one, two, single]
    change_study(pair[0], bell, study, move="last")
    assert [taken(registered, settings, bell, one) for _ in range(3)] == [single, one, two]
    with pytest.raises(Conflict, match="No run of study"):
        change_study(pair[0], bell, study, move="first")


def test_a_place_before_a_run_of_another_queue_is_refused(pair: list[Database], bell: SilentBell) -> None:
    mine, own, theirs = submit(pair[0], bell), submit(pair[0], bell), submit(pair[1], bell)
    change(pair[0], bell, own, priority="low")
    for before in (theirs, own, mine, 10**9):
        with pytest.raises(Invalid) as refused:
            change(pair[0], bell, mine, before=before)
        assert refused.value.fields[0].path == "before"


@pytest.mark.parametrize(
    "values", [{}, {"paused": None}, {"move": "first", "before": 1}, {"move": "up"}, {"priority": "highest"}, {"x": 1}]
)
def test_a_change_changes_something_and_names_one_place(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        QueueChange.model_validate(values)


def test_of_a_pause_and_a_claim_at_once_one_happens_first(
    registered: Database, pair: list[Database], bell: SilentBell
) -> None:
    """A run that is paused is either not claimed, or its worker is told to stop."""
    waiting = [submit(pair[0], bell) for _ in range(8)]
    for run_id in waiting:
        together = Barrier(2)

        def pause(run_id: int = run_id, together: Barrier = together) -> None:
            together.wait(30)
            change(pair[0], bell, run_id, paused=True)

        def take(run_id: int = run_id, together: Barrier = together) -> Any:
            together.wait(30)
            return registered.write(lambda session: attempts.claim(session, run_id, "w1", LEASE))

        with ThreadPoolExecutor(2) as pool:
            pausing, claiming = pool.submit(pause), pool.submit(take)
            pausing.result(), claiming.result()
        mine, after = claiming.result(), row(registered, run_id)
        assert after.paused and after.status == ("running" if mine else "queued")
        if mine:
            assert in_transaction(registered, lambda s, m=mine: attempts.report(s, m, 1, [], LEASE)).pause


def test_moves_and_claims_at_once_lose_and_repeat_no_run(
    registered: Database, pair: list[Database], bell: SilentBell, settings: Settings
) -> None:
    waiting = [submit(pair[0], bell) for _ in range(8)]
    together = Barrier(8)

    def move(run_id: int) -> None:
        together.wait(30)
        change(pair[0], bell, run_id, move="first")  # without repeating: no two of them may deadlock

    def hear(run_id: int) -> int | None:
        together.wait(30)
        return registered.write(lambda s: _taken(s, registered, settings, bell, run_id))

    with ThreadPoolExecutor(8) as pool:
        moving = [pool.submit(move, run_id) for run_id in waiting[4:]]
        hearing = [pool.submit(hear, run_id) for run_id in waiting[:4]]
        claimed = [future.result() for future in hearing]
        for future in moving:
            assert future.exception() is None or isinstance(future.exception(), Conflict)  # claimed meanwhile
    assert None not in claimed and len(set(claimed)) == 4
    left = sorted(set(waiting) - set(claimed))
    assert sorted(entry.run.id for entry in entries(pair[0]) if entry.run) == left
    with registered.reading() as session:
        places = [run.place for run in session.query(RunRow)]
    assert len(set(places)) == len(places)


def _taken(session: Any, db: Database, settings: Settings, bell: SilentBell, rung: int) -> int | None:
    context: Any = SimpleNamespace(
        worker="w1", settings=settings, bell=bell, database=db, trainers=SimpleNamespace(gpus=None)
    )
    claims = tasks._claim(session, context, rung)
    return claims[0].run_id if claims else None

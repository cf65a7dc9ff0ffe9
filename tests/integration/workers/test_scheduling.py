"""Whose run starts next, on SQLite and on PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import update

from app.domain.accounts.ownership import Viewer
from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.domain.resources.devices import Gpu
from app.domain.runs.training import TrainingArguments
from app.features.quotas.rules import LimitChange
from app.features.quotas.services import quotas
from app.services.runs import runs
from app.services.users import users
from app.services.workers import scheduling, workers
from app.settings import Settings
from app.store.database.session import Database
from app.store.runs import queries as run_queries
from app.store.tables import CollectionRow, DeviceUsageRow, RunRow, now
from app.store.users import queries as user_queries
from app.store.workers import queries as worker_queries
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import SPEC, row, submit
from worker import tasks

GPU = Gpu(uuid="GPU-1", name="L4", memory_bytes=1)


@pytest.fixture
def pair(registered: Database) -> list[Database]:
    """The database as each of two members sees it."""
    with registered.transaction() as session:
        ids = [users.create(session, NewUser(email=f"{name}@example.org", role=Role.MEMBER)).id for name in "ab"]
    return [registered.seen_by(Viewer(user_id)) for user_id in ids]


def queued(db: Database, bell: SilentBell, count: int) -> list[int]:
    return [submit(db, bell) for _ in range(count)]


def claims(db: Database, settings: Settings, bell: SilentBell, run_id: int) -> int | None:
    """The run that a worker claims when it hears a ring for a run."""
    context: Any = SimpleNamespace(
        worker="w1", settings=settings, bell=bell, database=db, trainers=SimpleNamespace(gpus=None)
    )
    with db.transaction() as session:
        claimed = tasks._claim(session, context, run_id)
    return claimed[0].run_id if claimed else None


def test_users_take_turns_however_many_runs_one_of_them_has_queued(
    registered: Database, pair: list[Database], bell: SilentBell, settings: Settings
) -> None:
    first, second = queued(pair[0], bell, 4), queued(pair[1], bell, 2)
    rung = [*first, *second]
    order = [claims(registered, settings, bell, run_id) for run_id in rung]
    assert order == [first[0], second[0], first[1], second[1], first[2], first[3]], "each ring starts one"
    assert claims(registered, settings, bell, first[0]) is None, "nothing waits"


def test_the_user_with_less_device_time_in_the_last_days_goes_first(
    registered: Database, pair: list[Database], bell: SilentBell, settings: Settings
) -> None:
    [first], [second] = queued(pair[0], bell, 1), queued(pair[1], bell, 1)
    with registered.transaction() as session:
        owner = row(registered, first).owner_id
        assert owner is not None
        session.add(DeviceUsageRow(user_id=owner, run_id=99, epoch=1, ended_at=now(), seconds=5.0))
    assert claims(registered, settings, bell, first) == second
    with registered.transaction() as session:
        old = now() - 2 * scheduling.RECENT
        session.execute(update(DeviceUsageRow).values(ended_at=old))
        session.execute(update(RunRow).where(RunRow.id == second).values(status="queued"))
    assert claims(registered, settings, bell, second) == first


def test_a_user_at_the_limit_is_passed_over(
    registered: Database, pair: list[Database], bell: SilentBell, settings: Settings
) -> None:
    first, second = queued(pair[0], bell, 3), queued(pair[1], bell, 1)
    with registered.transaction() as session:
        owner = user_queries.get(session, row(registered, first[0]).owner_id or 0)
        quotas.change_limits(session, owner, LimitChange(concurrent_runs=1))
        for run in session.query(RunRow).where(RunRow.id.in_(second)):
            run.reserved_seconds = 1e6  # so that its user would come last
    assert claims(registered, settings, bell, first[0]) == first[0]
    assert claims(registered, settings, bell, first[1]) == second[0]
    assert claims(registered, settings, bell, first[2]) is None


def test_a_run_that_the_worker_cannot_execute_keeps_no_one_waiting(
    registered: Database, pair: list[Database], bell: SilentBell
) -> None:
    training = TrainingArguments(devices=2, gradient_accumulation_steps=2)
    large = submit(pair[0], bell, SPEC.model_copy(update={"training": training}))
    small, last = queued(pair[0], bell, 1)[0], queued(pair[1], bell, 1)[0]
    with registered.transaction() as session:
        workers.sign_on(session, "w1", device="cuda", device_name="L4", memory_bytes=1, cores=1, gpus=[GPU])
    with registered.transaction() as session:
        turns = scheduling.Turns(session, large, "w1", [GPU.uuid])
        assert [turns.next(), turns.next()] == [small, last], "it has one GPU"
        assert scheduling.Turns(session, large, "w1").next() == large
    with registered.transaction() as session:
        qlora = {"kind": "qlora", "r": 4, "target_modules": ["query"]}
        run_queries.get(session, small).spec_json = SPEC.model_dump(mode="json") | {"method": qlora}
        run_queries.get(session, last).spec_json = SPEC.model_dump(mode="json") | {"method": qlora}
    with registered.transaction() as session:
        turns = scheduling.Turns(session, large, "w1", [GPU.uuid])
        assert turns.next() is None, "none fits"


def test_without_owners_there_is_one_queue(registered: Database, bell: SilentBell, settings: Settings) -> None:
    waiting = queued(registered, bell, 3)
    assert claims(registered, settings, bell, waiting[2]) == waiting[0]
    with registered.transaction() as session:
        runs.cancel(session, bell, waiting[1])
    assert claims(registered, settings, bell, waiting[1]) == waiting[2]
    assert claims(registered, settings, bell, waiting[0]) is None


def test_a_position_counts_the_runs_of_the_owner(pair: list[Database], bell: SilentBell) -> None:
    queued(pair[0], bell, 3)
    [mine] = queued(pair[1], bell, 1)
    with pair[1].reading() as session:
        assert runs.view(session, mine).queue_position == 1


def test_workers_that_hear_their_rings_at_once_take_a_run_each(
    registered: Database, pair: list[Database], bell: SilentBell, settings: Settings
) -> None:
    rings = queued(pair[0], bell, 6)
    together = Barrier(len(rings))

    def hear(run_id: int) -> int | None:
        together.wait(30)
        return claims(registered, settings, bell, run_id)

    with ThreadPoolExecutor(len(rings)) as pool:
        assert sorted(pool.map(hear, rings), key=str) == sorted(rings, key=str)


def test_a_run_that_never_fits_and_a_broken_gpu_keep_no_run_waiting(
    registered: Database, pair: list[Database], bell: SilentBell, settings: Settings
) -> None:
    lost = GPU.model_copy(update={"uuid": "GPU-2"})
    with registered.transaction() as session:
        workers.sign_on(session, "w1", device="cuda", device_name="L4", memory_bytes=1, cores=1, gpus=[GPU, lost])
        signed_on = worker_queries.get(session, "w1")
        assert signed_on is not None
        seen = [gpu | ({"problem": "lost"} if gpu["uuid"] == lost.uuid else {}) for gpu in signed_on.devices_json]
        signed_on.devices_json = seen
    training = TrainingArguments(devices=2, gradient_accumulation_steps=2)
    wide = SPEC.model_copy(update={"training": training})
    first = [submit(pair[0], bell, wide), *queued(pair[0], bell, 1)]
    second = queued(pair[1], bell, 1)
    context: Any = SimpleNamespace(
        worker="w1",
        settings=settings,
        bell=bell,
        database=registered,
        trainers=SimpleNamespace(gpus=(GPU.uuid, lost.uuid)),
    )
    with registered.transaction() as session:
        assert tasks._claim(session, context, second[0])[0].run_id == first[1]
    assert row(registered, first[0]).status == "queued"


def test_a_run_that_is_trained_elsewhere_takes_no_place_of_its_owner(
    registered: Database, pair: list[Database], bell: SilentBell, settings: Settings
) -> None:
    elsewhere, here = queued(pair[0], bell, 2)
    with registered.transaction() as session:
        owner = user_queries.get(session, row(registered, elsewhere).owner_id or 0)
        quotas.change_limits(session, owner, LimitChange(concurrent_runs=1))
        collection = CollectionRow(name="elsewhere")
        session.add(collection)
        session.flush()
        values = {"status": "running", "collection_id": collection.id}
        session.execute(update(RunRow).where(RunRow.id == elsewhere).values(**values))
    assert claims(registered, settings, bell, here) == here

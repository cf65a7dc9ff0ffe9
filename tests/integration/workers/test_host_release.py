"""A run on several hosts gives back what it has, whatever happens to it, and says what it waits for."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import event, func, select, update

from app.domain.failures import Failure, FailureCode
from app.domain.resources.devices import VisibleGpu
from app.domain.runs.hosts import HostState
from app.domain.runs.job import FailureReport
from app.queue import JOIN, Doorbell, join_queue
from app.services.ownership import deletion
from app.services.runs import attempts
from app.services.runs.attempts import hosts
from app.services.workers import scheduling, sweep
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import RunHostRow
from app.store.workers import clock
from app.store.workers import queries as worker_queries
from tests.integration.workers.test_devices import CARDS, A, B, C, D, claim, holders
from tests.integration.workers.test_several_hosts import FREE, both, said, sign_on, spec, three
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import LEASE, in_transaction, let_lease_expire, submit
from worker import tasks
from worker.training.other_hosts import Again, OtherHosts

BUG = Failure(code=FailureCode.INTERNAL, message="KeyError: 'x'")


def expire_parts(db: Database) -> None:
    """Let the leases of the hosts that have joined run out."""

    def past(session: Any) -> None:
        late = clock.now(session).replace(year=2000)
        session.execute(
            update(RunHostRow).where(RunHostRow.lease_expires_at.is_not(None)).values(lease_expires_at=late)
        )

    in_transaction(db, past)


@pytest.mark.parametrize("dies", [False, True], ids=["leaves", "dies"])
def test_a_host_of_a_deleted_run_still_gives_its_gpus_back(
    registered: Database, bell: SilentBell, settings: Settings, files: Files, *, dies: bool
) -> None:
    first, second = both(registered, bell)
    in_transaction(registered, lambda s: attempts.fail(s, bell, first, BUG))
    in_transaction(registered, lambda s: deletion.delete_run(s, files, first.run_id))
    in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
    assert holders(registered)[B] == (first.run_id, 1, "w2"), "its processes may still run"
    if dies:
        expire_parts(registered)
    else:
        in_transaction(registered, lambda s: hosts.leave(s, bell, second, "stopped"))
        assert set(holders(registered).values()) == {FREE}
    in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
    assert set(holders(registered).values()) == {FREE}
    with registered.reading() as session:
        assert session.scalar(select(func.count()).select_from(RunHostRow)) == 0, "the sweep forgets the run"


def test_the_sweep_keeps_the_order_of_locks(registered: Database, bell: SilentBell, settings: Settings) -> None:
    """The run's row, those of its hosts, of GPUs and of workers, as each transaction that changes several of them."""
    first, _second = both(registered, bell)
    let_lease_expire(registered, first.run_id)
    expire_parts(registered)
    statements: list[str] = []
    event.listen(registered.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    in_transaction(registered, lambda s: sweep.sweep(s, bell, settings))
    assert set(holders(registered).values()) == {FREE}
    part = next(n for n, text in enumerate(statements) if "FROM run_hosts" in text and "lease_expires_at <" in text)
    gpus = [n for n, text in enumerate(statements) if "FROM devices" in text and "devices.run_id IN" in text]
    worker = next(n for n, text in enumerate(statements) if text.startswith("UPDATE workers"))
    assert part < gpus[0] < worker


def hear(db: Database, settings: Settings, bell: SilentBell, run_id: int, *gpus: str) -> list[Any]:
    """What `w1` claims when it hears a ring for a run."""
    context: Any = SimpleNamespace(
        worker="w1", settings=settings, bell=bell, database=db, trainers=SimpleNamespace(gpus=list(gpus))
    )
    claimed: list[Any] = in_transaction(db, lambda s: tasks._claim(s, context, run_id))
    return claimed


def test_a_worker_that_hears_a_ring_says_what_the_run_waits_for(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    run_id = three(registered, bell)
    many = submit(registered, bell, spec(8))
    one = claim(registered, submit(registered, bell), "w2", B)
    assert one is not None
    assert hear(registered, settings, bell, many, A) == [] == hear(registered, settings, bell, many, A)
    lines = said(registered, many)
    assert lines[-1] == "Waiting for workers with 8 GPUs of one model: w1, w2 have 3." and lines.count(lines[-1]) == 1
    assert said(registered, run_id)[-1] == "Waiting for 3 GPUs of one model: w1, w2 have fewer that are free."


def test_gpus_that_are_broken_do_not_count_as_a_workers_own(registered: Database, bell: SilentBell) -> None:
    sign_on(registered, "w1", *CARDS[:2])
    sign_on(registered, "w2", *CARDS[2:], address="10.0.0.2")
    for name, uuid in (("w1", B), ("w2", D)):
        in_transaction(
            registered, lambda s, n=name, u=uuid: worker_queries.see(s, n, [VisibleGpu(uuid=u, problem="x")])
        )
    run_id = submit(registered, bell, spec(2))
    turns = in_transaction(registered, lambda s: scheduling.Turns(s, run_id, "w1", [A, B], LEASE).next())
    assert turns == run_id
    taken = claim(registered, run_id, "w1", A, B)
    assert taken is not None and taken.all_gpus == [A, C]
    small = submit(registered, bell, spec(2))
    assert claim(registered, small, "w1", A, B) is None
    assert said(registered, small)[-1] == "Waiting for 2 GPUs of one model: w1, w2 have fewer that are free."


def _leave(db: Database, bell: SilentBell, second: attempts.Claim) -> None:
    in_transaction(db, lambda s: hosts.renew(s, second, LEASE, ready=True))
    in_transaction(db, lambda s: hosts.leave(s, bell, second, "done"))


def test_a_host_whose_part_is_done_does_not_stop_the_run(registered: Database, bell: SilentBell) -> None:
    first, second = both(registered, bell)
    in_transaction(registered, lambda s: worker_queries.drain(s, "w2"))
    _leave(registered, bell, second)
    assert not in_transaction(registered, lambda s: attempts.report(s, first, 1, [], LEASE)).drain


def test_a_worker_that_is_told_to_stop_before_it_joins_stops_the_run(registered: Database, bell: SilentBell) -> None:
    run_id = three(registered, bell)
    first = claim(registered, run_id, "w1", A)
    assert first is not None
    in_transaction(registered, lambda s: worker_queries.drain(s, "w2"))
    orders = in_transaction(registered, lambda s: attempts.report(s, first, 1, [], LEASE))
    assert orders.drain and orders.others[0].draining and not orders.others[0].joined


def test_a_ring_for_a_part_reaches_the_queue_of_its_worker_and_has_no_expiry(settings: Settings) -> None:
    """An expiry would be compared with the clock of another host."""
    bell = Doorbell(settings)
    bell._app = app = Celery(broker="memory://")
    app.conf.task_ignore_result = True
    assert bell.ring_worker("w2", 7)
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        message = join_queue("w2")(channel).get(no_ack=True)
        assert message is not None and join_queue("w3")(channel).get() is None
    assert (message.headers["task"], message.headers["expires"]) == (JOIN, None)
    assert message.payload[0] == [7]


@pytest.mark.parametrize(
    ("report", "code"),
    [(FailureReport(failure=BUG), None), (None, FailureCode.NOT_JOINED)],
    ids=["it has failed itself", "it was killed"],
)
def test_a_failure_of_the_first_host_is_not_blamed_on_those_that_have_not_joined_yet(
    settings: Settings, report: FailureReport | None, code: FailureCode | None
) -> None:
    waiting = HostState(worker="w2", joined=False, ready=False, expired=False, draining=False, ended=None, failure=None)
    context: Any = SimpleNamespace(settings=settings.model_copy(update={"join_seconds": 1e-9}))
    lease: Any = SimpleNamespace(orders=attempts.Orders(cancel=False, drain=False, others=(waiting,)))
    end = OtherHosts(context, SimpleNamespace(), lease).end(report)  # type: ignore[arg-type]
    assert (end.failure.code if isinstance(end, Again) else end) == code

"""Clocks that differ or jump end no lease, and a lost worker is noticed in time, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from app.broker.queue import EXPORT, JUDGE, PARITY, PUSH
from app.domain.methods import FullSpec
from app.domain.models.exports import ExportFormat
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.features.judging.tables import JudgementRow
from app.features.shipping.tables import HubPushRow, ModelExportRow, ParityCheckRow
from app.services.runs import attempts
from app.services.runs import runs as run_service
from app.services.runs.attempts import Claim
from app.services.workers import clock_jumps
from app.services.workers import workers as worker_service
from app.services.workers.clock_jumps import ClockWatch
from app.services.workers.sweep import sweep
from app.settings import Settings
from app.store.database.session import Database
from app.store.runs import queries as runs
from app.store.tables import RunRow, StudyRow, UploadRow
from app.store.workers import clock
from app.store.workers import queries as workers
from tests.support.fakes.fakes import SilentBell

LEASE = 45.0
JUMPS = [timedelta(minutes=10), timedelta(minutes=-10)]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With the usual lease."""
    return settings.model_copy(update={"lease_seconds": LEASE})


@pytest.fixture
def claimed(registered: Database, bell: SilentBell) -> Claim:
    """A run that worker w1 has claimed."""
    with registered.transaction() as session:
        worker_service.sign_on(session, "w1", device="cpu", device_name="", memory_bytes=None, cores=1)
        run = run_service.submit(session, bell, RunSpec(base_model="tiny", dataset="small", method=FullSpec()))
        claim = attempts.claim(session, run.id, "w1", LEASE)
        assert claim is not None
        return claim


def wall_clock(patch: pytest.MonkeyPatch, off: timedelta) -> None:
    """Have every module that reads the wall clock read another time."""
    for module in (
        "app.services.runs.attempts.claiming",
        "app.services.runs.attempts.reporting",
        "app.services.workers.workers",
    ):
        patch.setattr(f"{module}.now", lambda: datetime.now(UTC) + off)
    patch.setattr(clock, "wall_clock", lambda: datetime.now(UTC) + off)


def add_exports(session: Session) -> None:
    """A running and a queued export of run 1, pushes, parity checks and judgements likewise, all just rung for."""
    at = clock.now(session)
    session.add(StudyRow(id=1, name="", spec_json={}, base_model_id=1, dataset_id=1))
    session.flush()
    for status, format_ in (("running", ExportFormat.ADAPTER), ("queued", ExportFormat.MERGED_FLOAT32)):
        export = ModelExportRow(run_id=1, format=format_.value, predicted_bytes=1)
        session.add(export)
        session.flush()
        push = HubPushRow(export_id=export.id, repository="a/b", card="")
        check = ParityCheckRow(run_id=1, url="", model="m")
        judgement = JudgementRow(study_id=1, url="", model="m", rubric="r", sample=2)
        for row in (export, push, check, judgement):
            row.status, row.rung_at, row.seen_at = status, at, at if status == "running" else None
        session.add_all([push, check, judgement])


def rung_exports(bell: SilentBell) -> set[tuple[str, int]]:
    """Exports, pushes, parity checks and judgements for which the doorbell was rung."""
    return {(task, ident) for task, ident in bell.rung if task in (EXPORT, PUSH, PARITY, JUDGE)}


ALL_RUNG = {(task, ident) for task in (EXPORT, PUSH, PARITY, JUDGE) for ident in (1, 2)}


def swept(database: Database, bell: SilentBell, settings: Settings, watch: ClockWatch | None = None) -> str:
    """The status of run 1 after a sweep."""
    with database.transaction() as session:
        if watch:
            watch.look(session, settings.lease_seconds)
        sweep(session, bell, settings)
    with database.reading() as session:
        return runs.get(session, 1).status


@pytest.mark.parametrize("off", JUMPS)
def test_a_worker_whose_clock_is_off_keeps_its_run_and_is_live(
    registered: Database,
    claimed: Claim,
    bell: SilentBell,
    settings: Settings,
    off: timedelta,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        wall_clock(patch, off)
        with registered.transaction() as session:
            attempts.report(session, claimed, 1, [], LEASE)
    assert swept(registered, bell, settings) == RunStatus.RUNNING
    with registered.reading() as session:
        left = runs.get(session, 1).lease_expires_at
        assert left is not None
        assert 0 < (left - clock.now(session)).total_seconds() <= LEASE
        [worker] = worker_service.live(session, settings)
        assert worker.seconds_since_heartbeat < LEASE
        assert workers.idle(session, clock.now(session) - timedelta(seconds=LEASE)) == 0


@pytest.mark.parametrize("jump", JUMPS)
def test_a_jump_of_the_wall_clock_does_not_move_the_clock(
    registered: Database, claimed: Claim, jump: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registered.reading() as session:
        before = clock.now(session)
        wall_clock(monkeypatch, jump)
        assert timedelta() <= clock.now(session) - before < timedelta(seconds=LEASE)
    another = Database(registered.url.render_as_string(hide_password=False))  # a process that starts after the jump
    with another.reading() as session:
        assert timedelta() <= clock.now(session) - before < timedelta(seconds=LEASE)
    another.dispose()


class Clocks:
    """The database's clock and this process's monotonic clock, moved by hand."""

    def __init__(self, patch: pytest.MonkeyPatch, start: datetime) -> None:
        self.database, self.monotonic = start, 1000.0
        patch.setattr(clock, "now", lambda _session: self.database)
        patch.setattr(clock_jumps.time, "monotonic", lambda: self.monotonic)

    def pass_by(self, seconds: float, jump: timedelta = timedelta()) -> None:
        """Time passes, and the database's clock jumps besides."""
        self.database += timedelta(seconds=seconds) + jump
        self.monotonic += seconds


@pytest.fixture
def clocks(registered: Database, claimed: Claim, monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Clocks that move by hand, from when the run was claimed."""
    with registered.reading() as session:
        return Clocks(monkeypatch, clock.now(session))


@pytest.mark.parametrize("jump", JUMPS)
def test_a_jump_of_the_databases_clock_ends_no_lease_of_a_live_worker_and_that_of_a_lost_one_in_time(
    registered: Database, claimed: Claim, clocks: Clocks, bell: SilentBell, settings: Settings, jump: timedelta
) -> None:
    with registered.transaction() as session:
        session.add(UploadRow(source="files", name="a", seen_at=clocks.database, rung_at=clocks.database))
        add_exports(session)
    watch = ClockWatch()
    assert swept(registered, bell, settings, watch) == RunStatus.RUNNING
    clocks.pass_by(20, jump)
    bell.rung.clear()
    assert swept(registered, bell, settings, watch) == RunStatus.RUNNING
    assert ("vezna.read", 1) not in bell.rung  # the claim on the upload is not taken over either
    assert rung_exports(bell) == set()
    for _ in range(3):
        clocks.pass_by(20)
        with registered.transaction() as session:
            attempts.report(session, claimed, 1, [], LEASE)
        assert swept(registered, bell, settings, watch) == RunStatus.RUNNING
    for _ in range(2):  # from here on the worker is lost
        clocks.pass_by(20)
        assert swept(registered, bell, settings, watch) == RunStatus.RUNNING
    clocks.pass_by(6)
    assert swept(registered, bell, settings, watch) == RunStatus.QUEUED
    assert rung_exports(bell) == ALL_RUNG, "a lost ring and a lost worker are noticed after a jump back too"


@pytest.mark.parametrize("jump", JUMPS)
def test_a_worker_that_was_lost_before_a_jump_is_noticed_one_lease_after_it(
    registered: Database, clocks: Clocks, bell: SilentBell, settings: Settings, jump: timedelta
) -> None:
    watch = ClockWatch()
    swept(registered, bell, settings, watch)
    clocks.pass_by(20, jump)
    assert swept(registered, bell, settings, watch) == RunStatus.RUNNING
    clocks.pass_by(LEASE + 1)
    assert swept(registered, bell, settings, watch) == RunStatus.QUEUED
    with registered.reading() as session:
        assert [view.state for view in worker_service.live(session, settings)] == ["lost"]


def test_a_slow_clock_is_no_jump_and_one_that_was_rolled_back_is_seen_again(
    registered: Database, clocks: Clocks, settings: Settings
) -> None:
    watch = ClockWatch()

    def look() -> bool:
        with registered.transaction() as session:
            return watch.look(session, LEASE)

    assert not look()
    clocks.pass_by(20, timedelta(seconds=LEASE / 3 - 1))
    assert not look()
    clocks.pass_by(20, timedelta(minutes=5))
    with pytest.raises(RuntimeError), registered.transaction() as session:
        assert watch.look(session, LEASE)
        raise RuntimeError
    assert look()
    assert not look()


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another boot, an hour ago by the wall clock's mistake: the machine has run for ten seconds."""
    monkeypatch.setattr(clock, "boot_id", lambda: "another boot")
    monkeypatch.setattr(clock, "_since_boot", lambda: timedelta(seconds=10))
    monkeypatch.setattr(clock, "wall_clock", lambda: datetime.now(UTC) - timedelta(hours=1))
    yield


def test_a_reboot_ends_what_ran_before_it_on_sqlite(
    registered: Database, claimed: Claim, bell: SilentBell, settings: Settings, request: pytest.FixtureRequest
) -> None:
    if registered.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL has a clock of its own")
    with registered.transaction() as session:
        session.add(UploadRow(source="files", name="a", seen_at=clock.now(session), rung_at=clock.now(session)))
        add_exports(session)
    request.getfixturevalue("boots")
    after = Database(registered.url.render_as_string(hide_password=False))
    with after.reading() as session:  # a page before anything was written
        assert [view.state for view in worker_service.live(session, settings)] in ([], ["idle"], ["running"], ["lost"])
    bell.rung.clear()
    assert swept(after, bell, settings) == RunStatus.QUEUED
    assert ("vezna.read", 1) in bell.rung
    assert rung_exports(bell) == ALL_RUNG
    with after.reading() as session:
        assert [view.state for view in worker_service.live(session, settings)] == ["lost"]
        assert session.get(RunRow, 1) is not None
        began = clock.now(session)
    with after.transaction() as session:
        assert timedelta() <= clock.now(session) - began < timedelta(seconds=5)
        claim = attempts.claim(session, 1, "w2", LEASE)
        assert claim is not None and claim.epoch == 2
    assert swept(after, bell, settings) == RunStatus.RUNNING
    after.dispose()


def test_without_a_boot_id_the_wall_clock_counts(
    registered: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(clock, "boot_id", lambda: "")
    with registered.reading() as session:
        assert abs((clock.now(session) - datetime.now(UTC)).total_seconds()) < 5

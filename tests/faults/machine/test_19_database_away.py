"""Fault 19: the database is away. Reports are kept and written once; beyond the lease the trainer stops itself."""

import time
from collections.abc import Iterator

import psutil
import pytest
from sqlalchemy.exc import OperationalError

from app.services.runs import attempts
from app.services.runs.attempts import Claim
from app.store.database import migrate
from app.store.database.session import Database
from app.store.runs import steps
from tests.conftest import PostgresServer, new_postgres_database, postgres_server
from tests.faults.installation import Installation, installation, spec
from tests.support.servers.running_stack import until
from tests.support.servers.supervised import attempt, left_folders
from worker.nodes.context import Context

LEASE_SECONDS = 8.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that may go away."""
    with postgres_server() as running:
        yield running


@pytest.fixture(scope="module")
def on_postgres(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    url = new_postgres_database(server.get_uri())
    database = Database(url)
    migrate.upgrade(database)
    database.dispose()
    with installation(tmp_path_factory.mktemp("away"), url, LEASE_SECONDS=f"{LEASE_SECONDS}") as running:
        yield running


def _with_a_checkpoint(vezna: Installation) -> int:
    """A run that trains and has a checkpoint."""
    vezna.begin()
    run_id = vezna.submit("trains")
    vezna.until_checkpoint(run_id)
    return run_id


@pytest.mark.nightly
def test_a_database_that_returns_within_the_lease_costs_nothing(
    on_postgres: Installation, server: PostgresServer
) -> None:
    vezna = on_postgres
    run_id = _with_a_checkpoint(vezna)
    trainer = vezna.trainer()
    server.stop()
    try:
        until(lambda: "database unreachable" in vezna.log("worker"), LEASE_SECONDS)
        refused = vezna.api.post("/runs", json=spec("succeeds"))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    finally:
        server.ensure_postgres_running()
    step = max(vezna.steps(run_id))
    until(lambda: vezna.steps(run_id)[-1] > step, 30)
    assert trainer.is_running()
    vezna.finish(run_id)
    run = vezna.require_succeeded_once(run_id)
    assert (run.epoch, run.attempts) == (1, 1)
    vezna.require_rest()


@pytest.mark.nightly
def test_a_database_that_is_away_longer_than_the_lease_costs_an_attempt(
    on_postgres: Installation, server: PostgresServer
) -> None:
    vezna = on_postgres
    run_id = _with_a_checkpoint(vezna)
    trainer, nodes = vezna.trainer(), [child.process for child in vezna.stack.children]
    server.stop()
    try:
        _gone, left = psutil.wait_procs([trainer], LEASE_SECONDS * 2 + 10)
        assert left == []
        until(lambda: "database unreachable; the lease has run out" in vezna.log("worker"), 20)
    finally:
        server.ensure_postgres_running()
    run = vezna.require_succeeded_once(run_id, attempts=2)
    assert run.result and run.result.resumed_from
    assert all(process.poll() is None for process in nodes), "no node had to be started again"
    vezna.require_rest()


def test_progress_is_kept_while_the_database_is_away_and_written_once(
    here: Context, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"failed": 0}
    real = attempts.report

    def sometimes(*arguments: object) -> object:
        if calls["failed"] < 3:
            calls["failed"] += 1
            raise OperationalError("UPDATE", {}, Exception("the database is away"))
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(attempts, "report", sometimes)
    run = attempt(here, claim, "succeeds")
    assert (run.status, calls["failed"]) == ("succeeded", 3)
    with here.database.reading() as session:
        assert steps.read(session, run.id)["step"].tolist() == list(range(1, 11))


@pytest.mark.slow
def test_a_database_that_is_away_longer_than_the_lease_ends_the_trainer(
    here: Context, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> object:
        raise OperationalError("UPDATE", {}, Exception("the database is away"))

    monkeypatch.setattr(attempts, "report", never)
    began = time.monotonic()
    run = attempt(here, claim, "steps-forever")
    assert time.monotonic() - began < here.settings.lease_seconds + 10
    assert run.status == "running"  # the sweeper takes it from here
    assert left_folders(here) == []

"""A worker tells a deadlock and a full disk of the database from a database that is away."""

import sqlite3
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from app.services.runs.attempts import Claim
from app.store.database.errors import cause
from app.store.database.session import Database
from tests.support.fakes.fakes import Refused
from tests.support.servers.supervised import attempt, row
from worker.nodes.context import Context
from worker.training.lease import Lease

AWAY = "database unreachable"
SOON = "SET LOCAL deadlock_timeout = '10ms'"
"""The transaction that looks first is the one that PostgreSQL ends."""
NEVER = "SET LOCAL deadlock_timeout = '60s'"
FIRST, SECOND = "SELECT pg_advisory_xact_lock(1)", "SELECT pg_advisory_xact_lock(2)"


class Deadlock:
    """A change that ends in a deadlock with another transaction when it is written for the first time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held, self._wanted = threading.Event(), threading.Event()
        self._other = threading.Thread(target=self._hold)
        self.tries = 0

    def __call__(self, session: Session) -> int:
        self.tries += 1
        session.execute(text(SOON))
        session.execute(text(FIRST))
        if self.tries == 1:
            self._other.start()
            assert self._held.wait(20)
        session.execute(text(SECOND))
        self._other.join()
        return self.tries

    def _hold(self) -> None:
        with self._database.transaction() as session:
            session.execute(text(NEVER))
            session.execute(text(SECOND))
            self._held.set()
            session.execute(text(FIRST))


@pytest.mark.slow
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_transaction_that_ends_in_a_deadlock_is_written_again_and_is_no_outage(database: Database) -> None:
    change = Deadlock(database)
    assert database.write(change) == change.tries == 2


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_lease_writes_again_what_a_deadlock_undid(here: Context, claim: Claim) -> None:
    lease, change = Lease(here.database, claim, lease_seconds=45, renew_seconds=1), Deadlock(here.database)
    with capture_logs() as logs:
        lease.write(change)  # type: ignore[arg-type]
    assert change.tries == 2
    said = [entry["event"] for entry in logs]
    assert said == ["another transaction changed the same rows, so the database undid this one; retrying"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_deadlocks_without_end_and_other_errors_are_raised(database: Database) -> None:
    tries: list[int] = []

    def fails(code: str) -> None:
        tries.append(1)
        raise OperationalError("UPDATE", {}, Refused("deadlock detected", code))

    with pytest.raises(OperationalError):
        database.write(lambda _session: fails("40P01"))
    assert len(tries) == 4
    with pytest.raises(OperationalError):
        database.write(lambda _session: fails("08006"))
    assert len(tries) == 5


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_full_disk_of_sqlite_is_named_with_its_folder_and_what_to_do(database: Database) -> None:
    with pytest.raises(OperationalError) as refused, database.transaction() as session:
        session.execute(text("PRAGMA max_page_count = 1"))  # SQLite takes the pages that the file has
        session.execute(text("CREATE TABLE more (data BLOB)"))
        session.execute(text("INSERT INTO more VALUES (zeroblob(10000000))"))
    said = cause(refused.value, database.url)
    assert database.url.database is not None
    assert said.startswith(f"the disk of the database ({database.url.database.rpartition('/')[0]}, ")
    assert " MiB left) is full: free some space there" in said


def test_a_full_disk_of_postgresql_is_named_with_its_server() -> None:
    database = Database("postgresql://someone@db.example/vezna")
    error = OperationalError("INSERT", {}, Refused("could not extend file", "53100"))
    said = cause(error, database.url)
    assert said == "the disk of the PostgreSQL server at db.example is full: free some space there"
    gone = OperationalError("INSERT", {}, Refused("server closed the connection unexpectedly"))
    assert cause(gone, database.url) == AWAY


@pytest.mark.parametrize("url", ["postgresql://someone@db.example/vezna", "sqlite:///vezna.sqlite"])
def test_what_a_statement_writes_is_no_full_disk(url: str) -> None:
    error = OperationalError("UPDATE", {"message": "The worker's disk is full"}, Refused("the connection is lost"))
    assert "disk is full" in str(error)
    assert cause(error, Database(url).url) == AWAY


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_worker_whose_database_has_a_full_disk_for_a_moment_says_so_and_loses_nothing(
    here: Context, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew, failures = Lease.renew, iter(range(2))

    def full_at_first(lease: Lease) -> None:
        if next(failures, None) is not None:
            raise OperationalError("UPDATE", {}, sqlite3.OperationalError("database or disk is full"))
        renew(lease)

    monkeypatch.setattr(Lease, "renew", full_at_first)
    with capture_logs() as logs:
        run = attempt(here, claim, "succeeds")
    assert run.status == "succeeded" == row(here, claim.run_id).status
    said = [
        entry["event"] for entry in logs if "is full: free some space there; reports stay in memory" in entry["event"]
    ]
    assert len(said) == 2 and not any(AWAY in entry["event"] for entry in logs)

"""Fault 20: eight writers on one database. None of them meets a lock error."""

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest

from app.domain.methods import FullSpec
from app.domain.runs.job import StepsReport
from app.services.runs import attempts
from app.services.runs.attempts import Claim
from app.settings import ROOT
from app.store.database.session import Database
from app.store.runs import steps
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import LEASE, SPEC, claim, in_transaction, row, submit
from tests.support.rows.results import result, step

WRITERS, RUNS, REPORTS = 8, 4, 25
FORK = """
import os, sys, threading
from app.store.database import session
from sqlalchemy import text

session.BUSY_MILLISECONDS = 3000
database = session.Database(sys.argv[1])
database.close_at_forks()
writing = threading.Event()

def write(db):
    with db.transaction() as transaction:
        transaction.execute(text("UPDATE workers SET draining = draining"))
        writing.set()
        threading.Event().wait(0.5)

thread = threading.Thread(target=write, args=[database])
thread.start()
writing.wait()
child = os.fork()
if child == 0:
    try:
        write(session.Database(sys.argv[1]))
    except BaseException as error:
        print(error, flush=True)
        os._exit(1)
    os._exit(0)
thread.join()
write(database)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
"""A process forks while one of its threads writes, as a node does that replaces a pool child; then both write."""


def execute(url: str, name: str, run_ids: list[int]) -> list[int]:
    """Claim runs, as a worker does in its own process, and carry out those that it gets. Returns their ids."""
    database = Database(url)
    claims = [found for run_id in run_ids if (found := claim(database, run_id, name))]
    for mine in claims:
        for number in range(1, REPORTS + 1):
            reports = [StepsReport(steps=[step(number)])]
            in_transaction(database, lambda s, m=mine, n=number, r=reports: attempts.report(s, m, n, r, LEASE))
        in_transaction(database, lambda s, m=mine: attempts.finish(s, SilentBell(), m, result(), {}))
    database.dispose()
    return [mine.run_id for mine in claims]


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_child_that_was_forked_while_its_parent_wrote_can_write(database: Database) -> None:
    command = [sys.executable, "-c", FORK, database.url.render_as_string()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.nightly
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_eight_processes_that_claim_and_report_at_once_meet_no_lock_error(
    registered: Database, bell: SilentBell
) -> None:
    ids = [submit(registered, bell) for _ in range(WRITERS * RUNS)]
    url = registered.url.render_as_string(hide_password=False)
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(WRITERS, mp_context=context) as pool:
        done = [pool.submit(execute, url, f"w{number}", ids[number:] + ids[:number]) for number in range(WRITERS)]
        taken = [run_id for future in done for run_id in future.result(timeout=120)]
    assert sorted(taken) == ids, "each was claimed once"
    with registered.reading() as session:
        found = steps.read_many(session, ids)
    assert all(found[run_id]["step"].tolist() == list(range(1, REPORTS + 1)) for run_id in ids)
    assert {(row(registered, i).status, row(registered, i).epoch) for i in ids} == {("succeeded", 1)}


@pytest.mark.slow
def test_eight_writers_on_one_database_meet_no_lock_error(registered: Database, bell: SilentBell) -> None:
    ids = [submit(registered, bell, SPEC.model_copy(update={"method": FullSpec()})) for _ in range(8)]
    claims = [claim(registered, run_id, f"w{run_id}") for run_id in ids]

    def work(mine: Claim | None) -> None:
        assert mine is not None
        for number in range(1, 26):
            in_transaction(
                registered, lambda s, n=number: attempts.report(s, mine, n, [StepsReport(steps=[step(n)])], LEASE)
            )
        in_transaction(registered, lambda s: attempts.finish(s, bell, mine, result(), {}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, claims))
    with registered.reading() as session:
        found = steps.read_many(session, ids)
    assert all(found[run_id]["step"].tolist() == list(range(1, 26)) for run_id in ids)

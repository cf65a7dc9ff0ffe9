"""Fault 14: a cancellation races with success. The run has exactly one end."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.domain.errors import Conflict
from app.services.runs import attempts
from app.services.runs.attempts import Fenced
from app.store.database.session import Database
from tests.faults.installation import Installation
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import claimed, in_transaction, row
from tests.support.rows.results import result
from tests.support.servers.running_stack import until


@pytest.mark.slow
def test_a_run_that_is_cancelled_as_it_finishes_ends_once(vezna: Installation) -> None:
    for _ in range(4):
        run_id = vezna.submit("trains")
        vezna.until_checkpoint(run_id)
        vezna.finish(run_id)
        assert vezna.api.post(f"/runs/{run_id}/cancel").status_code in (202, 409)
        until(lambda run_id=run_id: vezna.run(run_id).finished_at is not None, 30)
        run, said = vezna.run(run_id), vezna.messages(run_id)
        ends = [line.partition(":")[0] for line in said if line.startswith(("succeeded", "cancelled", "failed"))]
        assert ends == [run.status]
        assert (run.result is not None) == (run.status == "succeeded")
        artifacts = vezna.api.get(f"/runs/{run_id}/artifacts").json()
        assert len(artifacts) == (run.status == "succeeded")


def test_cancel_that_races_with_success_leaves_exactly_one_end(registered: Database, bell: SilentBell) -> None:
    for _ in range(6):
        mine = claimed(registered, bell)

        def end(act: Callable[[Session], Any]) -> str:
            try:
                in_transaction(registered, act)
            except (Fenced, Conflict):
                return "refused"
            return "done"

        acts: list[Callable[[Session], Any]] = [
            lambda s, m=mine: attempts.finish(s, bell, m, result(), {}),
            lambda s, m=mine: attempts.stop(s, bell, m),
        ]
        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(end, acts)) == ["done", "refused"]
        assert row(registered, mine.run_id).status in ("succeeded", "cancelled")

"""Fault 3: a request is sent twice with the same `Idempotency-Key`, since the server died before it answered."""

import httpx2
import pytest

from app.store.runs import queries as runs
from tests.faults.broker.test_02_web_killed_before_ring import server_that_dies_before_it_rings
from tests.faults.installation import Installation, spec

pytestmark = pytest.mark.slow

KEY = {"Idempotency-Key": '"0f1f4a3c-2a47-4a0e-9f6c-3f2a6a1d7b55"'}


def test_a_request_that_is_repeated_after_its_server_died_is_done_once(vezna: Installation) -> None:
    with vezna.database.reading() as session:
        before = sum(runs.count_by_status(session).values())
    with server_that_dies_before_it_rings(vezna) as url, pytest.raises(httpx2.TransportError):
        httpx2.post(f"{url}/api/v1/runs", json=spec("succeeds"), headers=KEY)
    again = vezna.api.post("/runs", json=spec("succeeds"), headers=KEY)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    other = vezna.api.post("/runs", json=spec("trains"), headers=KEY)
    assert other.status_code == 422 and "Idempotency-Key" in other.text
    vezna.require_succeeded_once(again.json()["id"])
    with vezna.database.reading() as session:
        assert sum(runs.count_by_status(session).values()) == before + 1

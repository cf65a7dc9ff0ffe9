"""Without the feature no message is made, and the notes of ended runs are taken all the same."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.domain.runs.status import RunStatus
from app.feature import VARIABLE
from app.features import FEATURES
from app.services.runs import ended
from app.store.runs import queries as runs
from app.store.tables import EndedRunRow
from tests.features.webhooks.test_webhooks import Site, receiver, site
from tests.support.rows.factories import LORA, seed_study

__all__ = ["receiver", "site"]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, ",".join(name for name in FEATURES if name != "webhooks"))


def test_pages_routes_and_links_are_gone(without: None, full: TestClient) -> None:
    assert [full.get(path).status_code for path in ("/webhooks", "/api/v1/webhooks")] == [404] * 2
    shown = full.get("/registry")
    assert shown.status_code == 200 and "/webhooks" not in shown.text


def test_a_failed_run_is_noted_and_not_told(without: None, site: Site) -> None:
    with site.database.transaction() as session:
        [run] = runs.of_study(session, seed_study(session, arms=(LORA,), seeds=(0,)))
        run.status = RunStatus.FAILED.value
        ended.note(session, run.id)
    ended.process(site.database, site.settings)
    assert site.messages(site.id) == []
    with site.database.reading() as session:
        assert session.scalars(select(EndedRunRow)).all() == []

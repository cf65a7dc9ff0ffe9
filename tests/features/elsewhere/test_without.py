"""Without the feature its pages, routes and links are gone; core pages show the runs that it has added."""

import pytest
from fastapi.testclient import TestClient

from app.domain.imports.declared import ExternalStudySpec
from app.domain.imports.reports import RunOpening
from app.feature import VARIABLE
from app.features import FEATURES
from app.features.elsewhere.queries import tracker_exports
from app.features.elsewhere.services import studies as external
from app.store.tables import now
from tests.support.rows.external import LORA, SPEC
from tests.unit.web.conftest import database_of


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, ",".join(name for name in FEATURES if name != "elsewhere"))


def test_pages_routes_and_links_are_gone(without: None, full: TestClient) -> None:
    with database_of(full).transaction() as session:
        study = external.declare(session, ExternalStudySpec(**SPEC)).id
        run = external.open_run(session, study, RunOpening(key="k", arm=LORA, seed=0)).run_id
        tracker_exports.queue(session, 1, now(), external=False)
    gone = ("/imports", f"/external-studies/{study}", "/api/v1/external-studies")
    assert [full.get(path).status_code for path in gone] == [404] * len(gone)
    pages = ("/studies/1", "/studies", "/runs", f"/runs/{run}", "/compare", f"/compare?collection={study}")
    for page in pages:
        shown = full.get(page)
        assert shown.status_code == 200, page
        links = ("tracker-export", 'href="/imports"', "/external-studies")
        assert not [link for link in links if link in shown.text], page
    assert full.get("/api/v1/studies/1").json()["tracker_export"] is None
    assert full.get(f"/api/v1/runs/{run}").json()["no_news"] is False

"""The core's pages and API without exports, playground and judges."""

import pytest
from fastapi.testclient import TestClient

from app.feature import VARIABLE
from app.features import FEATURES
from tests.support.filled.judged import add_judgements
from tests.unit.web.conftest import database_of

RUN, STUDY = 2, 5
OFF = ("shipping", "serving", "judging")
PARTS = ('id="exports"', 'id="parity"', 'id="judge"', 'id="to-judge"', "/judge", "/blind", '="/playground', "/registry")


@pytest.fixture
def off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, ",".join(name for name in FEATURES if name not in OFF))


def test_the_pages_stand_without_them(off: None, with_language: TestClient) -> None:
    with database_of(with_language).transaction() as session:
        add_judgements(session, STUDY)
    for page in (
        f"/runs/{RUN}",
        f"/studies/{STUDY}",
        f"/studies/{STUDY}/report.html",
        "/models",
        f"/studies/{STUDY}/flips",
    ):
        answer = with_language.get(page)
        assert answer.status_code == 200, page
        assert [part for part in PARTS if part in answer.text] == [], page
    for gone in ("/registry", "/playground", f"/runs/{RUN}/exports", f"/runs/{RUN}/parity", f"/studies/{STUDY}/judge"):
        assert with_language.get(gone).status_code == 404, gone
    compared = with_language.get(f"/api/v1/studies/{STUDY}/comparison").json()
    assert (compared["judged"], compared["judgements"]) == ([], None)

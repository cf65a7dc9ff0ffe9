"""Without the Lab, its pages and links are gone, and what it computed is read all the same."""

from pathlib import Path

import pytest
from sqlalchemy import select

from app.domain.accounts.policy import Role
from app.feature import VARIABLE
from app.features import FEATURES
from app.features.lab.computations import MatricesRequest
from app.features.lab.tables import LabClassRow
from app.main import create_app
from app.services.resources import estimates
from app.store.database import owners
from app.store.tables import EstimateRow
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.accounts import installed
from tests.support.rows.lab import MATRICES


def turn_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, ",".join(name for name in FEATURES if name != "lab"))


def test_its_pages_and_links_are_gone(tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with installed(tmp_path, migrated_file) as made:
        assert 'action="/lab/sample"' in made.browser(Role.MEMBER).get("/studies").text
        turn_off(monkeypatch)
        made.app = create_app(made.settings)
        browser = made.browser(Role.MEMBER)
        shown = browser.get("/studies")
        assert shown.status_code == 200 and '="/lab' not in shown.text and 'href="/studies/new"' in shown.text
        assert [browser.get(path).status_code for path in ("/lab", "/api/v1/classes/1")] == [404] * 2


def test_its_rows_are_kept(tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn_off(monkeypatch)
    request, bell = MatricesRequest(location="/model", layer="layer"), SilentBell()
    with installed(tmp_path, migrated_file) as made, made.database.transaction() as session:
        waiting = estimates.wanted(session, bell, request)
        claimed = estimates.begin(session, waiting.id)
        assert claimed is not None and claimed.request == request
        assert estimates.ready(session, bell, claimed, MATRICES)
        assert session.scalars(select(EstimateRow.status)).all() == ["ready"]
        session.add(LabClassRow(name="A", code="a", teacher_id=made.ids[Role.MEMBER]))
        session.flush()
        owners.transfer_all(session, made.ids[Role.MEMBER], made.ids[Role.ADMIN])
        assert session.scalars(select(LabClassRow.teacher_id)).all() == [made.ids[Role.ADMIN]]

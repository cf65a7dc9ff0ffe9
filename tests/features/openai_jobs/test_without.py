"""Without fine-tuning jobs their routes are gone, and what was made by one can be deleted."""

from pathlib import Path

import pytest

from app.domain.accounts.policy import Role
from app.feature import VARIABLE
from app.features import FEATURES
from app.main import create_app
from app.settings import Settings
from tests.support.rows.owners import PrivateInstallation


def turn_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, ",".join(name for name in FEATURES if name != "openai_jobs"))


def test_its_routes_are_gone_and_its_runs_can_be_deleted(
    tmp_path: Path, filled_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vezna.sqlite").write_bytes(filled_file.read_bytes())
    installation = PrivateInstallation(Settings(home=tmp_path, login="required"))
    unknown = installation.program(Role.MEMBER).get("/v1/nothing")
    assert unknown.status_code == 404 and "error" in unknown.json()
    turn_off(monkeypatch)
    installation.app = create_app(installation.settings)
    browser = installation.browser(Role.MEMBER)
    assert browser.get("/data").status_code == 200
    unknown = browser.get("/v1/files")
    assert unknown.status_code == 404 and unknown.headers["content-type"].startswith("text/html")
    assert installation.program(Role.MEMBER).delete("/api/v1/studies/1").status_code == 204

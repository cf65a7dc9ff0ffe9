"""Without recipes a study that tests one is a study."""

from pathlib import Path

import pytest

from app.domain.accounts.policy import Role
from app.feature import VARIABLE
from app.features import FEATURES
from app.main import create_app
from app.settings import Settings
from tests.support.rows.owners import RECIPE, PrivateInstallation


def turn_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, ",".join(name for name in FEATURES if name != "recipes"))


def test_a_study_that_tests_one_is_shown_without_it(
    tmp_path: Path, filled_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vezna.sqlite").write_bytes(filled_file.read_bytes())
    installation = PrivateInstallation(Settings(home=tmp_path, login="required"))
    browser = installation.browser(Role.MEMBER)
    assert 'id="to-recipe"' in browser.get("/studies/2").text
    assert browser.get("/api/v1/studies/2").json()["recipe"] == RECIPE
    turn_off(monkeypatch)
    installation.app = create_app(installation.settings)
    browser = installation.browser(Role.MEMBER)
    shown = browser.get("/studies/2")
    assert shown.status_code == 200 and 'id="to-recipe"' not in shown.text and 'href="/recipes"' not in shown.text
    assert browser.get("/api/v1/studies/2").json()["recipe"] is None
    assert [browser.get(path).status_code for path in ("/recipes", "/api/v1/recipes")] == [404] * 2

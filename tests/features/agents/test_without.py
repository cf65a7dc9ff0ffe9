"""Without the agent interface nothing is at its address."""

from pathlib import Path

import pytest

from app.domain.accounts.policy import Role
from app.feature import VARIABLE
from app.features import FEATURES
from app.web.http.errors import AGENTS
from tests.support.rows.accounts import installed


def turn_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, ",".join(name for name in FEATURES if name != "agents"))


def test_nothing_is_there(tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn_off(monkeypatch)
    with installed(tmp_path, migrated_file) as made:
        browser = made.browser(Role.MEMBER)
        assert browser.get("/studies").status_code == 200
        assert browser.post(AGENTS, json={}).status_code == 404

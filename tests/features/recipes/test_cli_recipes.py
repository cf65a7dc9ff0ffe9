"""`vezna recipes` against a served application."""

import json

import pytest

from app.store.database.session import Database
from tests.integration.web.test_api import finish
from tests.integration.web.test_cli import server, vezna

__all__ = ["server"]
pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.parametrize("database", ["sqlite"], indirect=True)]


def test_recipes_are_listed_shown_run_and_judged(
    server: str, registered: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vezna(monkeypatch, "recipes", "list", "--url", server) == 0
    assert "attention-only" in capsys.readouterr().out
    assert vezna(monkeypatch, "recipes", "show", "seed-noise", "--url", server) == 0
    assert "No outcome judges Lily, which does not run here" in capsys.readouterr().out
    assert vezna(monkeypatch, "recipes", "card", "seed-noise", "--url", server) == 1
    assert "has not run here yet" in capsys.readouterr().err
    where = ("--model", "tiny", "--data", "small", "--url", server)
    assert vezna(monkeypatch, "recipes", "run", "seed-noise", *where) == 0
    assert "Study 1 is queued" in capsys.readouterr().out
    for run_id in range(1, 17):
        finish(registered, run_id, 0.875 if run_id % 3 else 0.75)
    assert vezna(monkeypatch, "recipes", "card", "seed-noise", "--url", server) == 0
    shown = capsys.readouterr().out
    assert "not reproduced" in shown and "Paper: 1.7 points apart on 1,319 items" in shown and "Published: " in shown
    assert vezna(monkeypatch, "recipes", "card", "seed-noise", "--study", "1", "--json", "--url", server) == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == "not_reproduced"


def test_a_recipe_that_does_not_fit_is_refused(
    server: str, registered: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--model", "tiny", "--data", "small", "--url", server)
    assert vezna(monkeypatch, "recipes", "run", "forgetting", *where) == 1
    assert "has no rows for causal-lm" in capsys.readouterr().err

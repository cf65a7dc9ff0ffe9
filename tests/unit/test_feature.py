"""Which features are active: all, none, those that are named; and what a server without any has."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app import feature
from app.domain.errors import Invalid
from app.features import FEATURES
from app.main import create_app
from app.settings import Settings, load
from app.store.database import migrate
from app.store.database.session import Database


def test_all_are_active_unless_the_variable_names_some_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(feature.VARIABLE, raising=False)
    assert feature.active() == FEATURES
    monkeypatch.setenv(feature.VARIABLE, "all")
    assert feature.active() == FEATURES
    monkeypatch.setenv(feature.VARIABLE, "")
    assert feature.active() == ()
    monkeypatch.setenv(feature.VARIABLE, " webhooks, lab,")
    assert feature.active() == ("lab", "webhooks")


def test_a_feature_that_does_not_exist_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(feature.VARIABLE, "lab,weebhooks")
    with pytest.raises(Invalid, match="there is no feature weebhooks; there are agents, elsewhere"):
        load()


def test_every_package_below_features_is_in_the_list() -> None:
    for package in ("app", "worker"):
        folder = Path(feature.__file__).parents[1] / package / "features"
        named = {path.name for path in folder.iterdir() if (path / "__init__.py").exists()}
        assert named <= {*FEATURES} and (package == "worker" or named == {*FEATURES})


def test_a_server_without_features_serves_the_core_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(feature.VARIABLE, "")
    settings = Settings(home=tmp_path, allowed_hosts=["testserver"])
    migrate.upgrade(Database(settings.database))
    with TestClient(create_app(settings)) as client:
        for page in ("/studies", "/runs", "/data", "/models", "/workers", "/studies/new"):
            assert client.get(page).status_code == 200, page
        for page in ("/lab", "/recipes", "/playground", "/webhooks", "/api/v1/recipes"):
            assert client.get(page).status_code == 404, page
        shown = client.get("/studies").text
        assert 'href="/models"' in shown and 'href="/lab"' not in shown

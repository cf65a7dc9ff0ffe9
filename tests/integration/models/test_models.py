"""Base models in the database: registered, inspected, inspected again once there is more to see."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.broker.queue import INSPECT
from app.domain.errors import Conflict, Invalid
from app.domain.models.base_model import FACTS_VERSION, ModelRegistration
from app.services.models import models
from app.services.workers import sweep
from app.settings import Settings
from app.store.database.session import Database
from app.store.models import queries as base_models
from app.store.tables import BaseModelRow, now
from tests.conftest import TINY_FACTS
from tests.support.fakes.fakes import SilentBell
from worker.children import environment
from worker.nodes import context

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MAIN = ModelRegistration(name="small", source="hub", location="google-t5/t5-small", revision="main")


def _register(database: Database, bell: SilentBell, wanted: ModelRegistration = MAIN) -> int:
    with database.transaction() as session:
        return models.register(session, bell, wanted, []).id


def _inspected(database: Database, model: int, **facts: object) -> None:
    with database.transaction() as session:
        models.inspected(session, model, TINY_FACTS.model_copy(update={"revision": COMMIT, **facts}))


def _row(database: Database, model: int) -> BaseModelRow:
    with database.reading() as session:
        found = base_models.by_id(session, model)
        assert found is not None
        return found


def _do(database: Database, change: Callable[[Session], object]) -> object:
    with database.transaction() as session:
        return change(session)


def test_a_branch_becomes_a_commit_that_every_load_uses(database: Database, bell: SilentBell) -> None:
    model = _register(database, bell)
    assert _row(database, model).pinned == "main"
    _inspected(database, model)
    row = _row(database, model)
    assert (row.revision, row.pinned, row.status) == ("main", COMMIT, "ready")


@pytest.mark.parametrize("revision", ["", "main", COMMIT])
def test_the_same_model_again_is_the_same_one(database: Database, bell: SilentBell, revision: str) -> None:
    model = _register(database, bell)
    _inspected(database, model)
    assert _register(database, bell, MAIN.model_copy(update={"revision": revision})) == model


def test_another_revision_under_a_name_that_is_taken_is_refused(database: Database, bell: SilentBell) -> None:
    _register(database, bell)
    with pytest.raises(Conflict, match="already exists, at main"):
        _register(database, bell, MAIN.model_copy(update={"revision": "v2"}))


def test_a_directory_outside_the_roots_is_refused_even_by_a_link(
    database: Database, bell: SilentBell, tmp_path: Path
) -> None:
    (tmp_path / "roots").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "roots" / "link").symlink_to(tmp_path / "elsewhere")
    for place in ("elsewhere", "roots/../elsewhere", "roots/link"):
        wanted = ModelRegistration(name="m", source="directory", location=str(tmp_path / place))
        with pytest.raises(Invalid, match="is not below an allowed root"):
            _do(database, lambda s, wanted=wanted: models.register(s, bell, wanted, [tmp_path / "roots"]))


def test_facts_of_an_older_inspection_are_taken_again_by_the_sweep(
    database: Database, bell: SilentBell, settings: Settings
) -> None:
    model = _register(database, bell)
    _inspected(database, model, version=0)
    bell.rung.clear()
    _do(database, lambda s: sweep.sweep(s, bell, settings))
    assert bell.rung == [(INSPECT, model)]
    assert _row(database, model).facts, "it stays in use meanwhile"
    assert _do(database, lambda s: models.begin_inspection(s, model)) is not None
    assert _do(database, lambda s: models.begin_inspection(s, model)) is None
    _inspected(database, model, dtype="bfloat16")
    found = _row(database, model).facts
    assert found and (found.version, found.dtype, found.stale) == (FACTS_VERSION, "bfloat16", False)
    bell.rung.clear()
    _do(database, lambda s: sweep.sweep(s, bell, settings))
    assert bell.rung == []


def test_one_that_cannot_be_inspected_again_stays_as_it_was_and_is_tried_in_an_hour(
    database: Database, bell: SilentBell, settings: Settings
) -> None:
    model = _register(database, bell)
    _inspected(database, model, version=0)
    assert _do(database, lambda s: models.begin_inspection(s, model)) is not None
    _do(database, lambda s: models.uninspectable(s, model, "This worker is offline."))
    row = _row(database, model)
    assert (row.status, row.message, row.pinned) == ("ready", "", COMMIT)
    bell.rung.clear()
    _do(database, lambda s: sweep.sweep(s, bell, settings))
    assert bell.rung == []
    long_ago = now() - timedelta(seconds=models.AGAIN_SECONDS + 1)
    _do(database, lambda s: s.execute(update(BaseModelRow).values(inspection_started_at=long_ago)))
    _do(database, lambda s: sweep.sweep(s, bell, settings))
    assert bell.rung == [(INSPECT, model)]


def test_what_lies_in_a_models_place_by_now_does_not_take_its_place(database: Database, bell: SilentBell) -> None:
    model = _register(database, bell)
    _inspected(database, model, version=0)
    _inspected(database, model, revision="f" * 64, dtype="float16")
    row = _row(database, model)
    assert row.pinned == COMMIT and row.facts and row.facts.dtype == ""


def test_the_hubs_token_comes_from_a_file_and_reaches_loading_processes_under_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("hf_secret\n")
    monkeypatch.setenv("VEZNA_HUB_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("VEZNA_HOME", str(tmp_path))
    here = context._of_process.__wrapped__(0)
    assert here.settings.hub_token == SecretStr("hf_secret")
    assert "hf_secret" not in repr(here.settings)
    given = environment.child_environment()
    assert given["HF_TOKEN"] == "hf_secret"
    assert "VEZNA_HUB_TOKEN_FILE" not in given

"""A spec from before a default changed keeps its meaning. On SQLite and on PostgreSQL."""

from typing import Any

from alembic import command
from sqlalchemy import select, update

from app.domain.studies.spec import StudySpec
from app.services.studies import studies
from app.store.database import migrate
from app.store.database.session import Database
from app.store.runs import queries as runs
from app.store.tables import RunRow, StudyRow
from tests.support.checks.migrations_in_step import config, differences
from tests.support.fakes.fakes import SilentBell

STUDY = {
    "name": "S",
    "base_model": "tiny",
    "dataset": "small",
    "seeds": [0],
    "arms": [
        {"method": {"kind": "full"}},
        {"method": {"kind": "lora", "r": 2, "target_modules": "peft-default"}, "learning_rate": 3e-4},
        {"method": {"kind": "ia3"}},
    ],
}


def test_a_default_that_a_spec_relied_on_is_written_into_it(registered: Database, bell: SilentBell) -> None:
    with registered.transaction() as session:
        studies.submit(session, bell, StudySpec.model_validate(STUDY))
        before = {run.id: (run.spec, run.group_key) for run in session.scalars(select(RunRow))}
    _migrate(registered, "0004")
    with registered.transaction() as session:
        stored_spec = session.scalars(select(StudyRow.spec_json).where(StudyRow.id == 1)).one()
        arms = stored_spec["arms"]
        assert arms[1]["method"]["target_modules"] is None
        old: list[dict[str, Any]] = [arm | {"learning_rate": None} for arm in arms]
        session.execute(update(StudyRow).where(StudyRow.id == 1).values(spec_json=stored_spec | {"arms": old}))
        spec, key = session.execute(select(RunRow.spec_json, RunRow.group_key).where(RunRow.id == 2)).one()
        assert _targets(spec) == {"target_modules": None}
        assert key != before[2][1]

    _migrate(registered, "head")

    assert differences(registered) == []
    migrate.require_current(registered)
    with registered.reading() as session:
        full, lora, ia3 = session.get_one(StudyRow, 1).spec.arms
        assert [full.learning_rate, lora.learning_rate, ia3.learning_rate] == [1e-4, 2e-3, 2e-2]
        stored = session.get_one(StudyRow, 1).spec_json["arms"]
        assert _targets(stored[1]) == {"target_modules": "peft-default"}
        assert _targets(stored[2]) == dict.fromkeys(("target_modules", "feedforward_modules"), "peft-default")
        after = {run_id: runs.get(session, run_id) for run_id in before}
        assert {run_id: (run.spec, run.group_key) for run_id, run in after.items()} == before


def _targets(spec: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spec["method"].items() if name.endswith("_modules")}


def _migrate(database: Database, revision: str) -> None:
    with database.engine.connect() as connection:
        change = command.downgrade if revision != "head" else command.upgrade
        change(config(connection), revision)

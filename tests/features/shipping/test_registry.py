"""The model registry on SQLite and PostgreSQL: versions, stages, promotions that race, and what cannot be deleted."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.models.exports import ExportFormat
from app.features.shipping.queries import registry as queries
from app.features.shipping.rules.registry import Promotion, Registration, Stage
from app.features.shipping.services import exports as model_exports
from app.features.shipping.services import registry
from app.features.shipping.services.work import EXPORTS
from app.features.shipping.tables import ModelVersionRow
from app.services.ownership import deletion
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import queries as runs
from tests.support.filled import exports as filled_exports
from tests.support.rows.factories import LORA, seed_study

PASS = filled_exports.gate(GateOutcome.PASS, -0.002, 0.004)
UNDECIDED = filled_exports.gate(GateOutcome.UNDECIDED, -0.011, 0.014)
FORMATS = (ExportFormat.ADAPTER, ExportFormat.MERGED_FLOAT32, ExportFormat.MERGED_BFLOAT16)
NAME = "headlines"


@pytest.fixture
def exports(database: Database) -> list[int]:
    """Three exports of one run of a study; the last one's gate is undecided."""
    with database.transaction() as session:
        study_id = seed_study(session, arms=(LORA,), seeds=(0,))

        [run] = runs.of_study(session, study_id)
        gates = (PASS, PASS, UNDECIDED)
        return [
            filled_exports.add(session, run.id, form, "succeeded", gate)
            for form, gate in zip(FORMATS, gates, strict=True)
        ]


def stages(database: Database) -> dict[int, str]:
    """The stage of each version."""
    with database.reading() as session:
        model = queries.get(session, NAME)
        return {row.number: row.stage.value for row in queries.versions(session, [model.id])}


def register(database: Database, settings: Settings, export_id: int, **fields: object) -> int:
    with database.transaction() as session:
        new = Registration.model_validate({"export": export_id, **fields})
        return registry.register(session, settings, NAME, new, None).number


def promote(database: Database, number: int, stage: str = "champion", **fields: object) -> None:
    with database.transaction() as session:
        registry.promote(session, NAME, number, Promotion.model_validate({"stage": stage, **fields}), None)


def test_a_name_has_one_champion_and_every_change_is_kept(
    database: Database, settings: Settings, exports: list[int]
) -> None:
    assert register(database, settings, exports[0], stage="champion") == 1
    assert register(database, settings, exports[1]) == 2
    promote(database, 2, reason="answers as the run did")
    assert stages(database) == {1: "retired", 2: "champion"}
    promote(database, 1, reason="version 2 is too large")
    with database.reading() as session:
        model = queries.get(session, NAME)
        rows = queries.versions(session, [model.id])
        changes = sorted((c for row in rows for c in row.changes), key=lambda change: change.id)
        assert [(c.version.number, c.before, c.after, c.reason) for c in changes] == [
            (1, None, "champion", ""),
            (2, None, "candidate", ""),
            (1, "champion", "retired", "Replaced by version 2."),
            (2, "candidate", "champion", "answers as the run did"),
            (2, "champion", "retired", "Replaced by version 1."),
            (1, "retired", "champion", "version 2 is too large"),
        ]
        assert model.revision == 4
        assert registry.champion(session, NAME).number == 1
        assert all('"payloadType":"application/vnd.in-toto+json"' in row.receipt for row in rows)


def test_what_has_not_passed_needs_a_reason(database: Database, settings: Settings, exports: list[int]) -> None:
    with pytest.raises(Invalid, match="The gate of this export is undecided, so it needs a reason"):
        register(database, settings, exports[2])
    with database.reading() as session, pytest.raises(NotFound):
        queries.get(session, NAME)
    register(database, settings, exports[2], reason="a test of the device")
    with pytest.raises(Invalid) as refused:
        promote(database, 1, reason="  ")
    assert refused.value.fields[0].path == "reason"
    promote(database, 1, "retired")
    assert stages(database) == {1: "retired"}


@pytest.mark.parametrize("status", ["running", "failed"])
def test_only_what_has_succeeded_is_registered(
    database: Database, settings: Settings, exports: list[int], status: str
) -> None:
    with database.transaction() as session:
        row = EXPORTS.get(session, exports[0])
        row.status, row.gate_json = status, None
    with pytest.raises(Invalid, match=f"Export {exports[0]} is {status}"):
        register(database, settings, exports[0])
    with pytest.raises(Invalid, match="There is no export 999"):
        register(database, settings, 999)
    register(database, settings, exports[1])
    with pytest.raises(Conflict, match=f"Export {exports[1]} is version 1 of {NAME} already"):
        register(database, settings, exports[1])


def test_of_two_promotions_from_one_revision_one_is_refused(
    database: Database, settings: Settings, exports: list[int]
) -> None:
    for export_id in exports[:2]:
        register(database, settings, export_id)

    def attempt(number: int) -> str:
        try:
            promote(database, number, revision=2)
        except Conflict as error:
            return str(error.message)
        return ""

    with ThreadPoolExecutor() as pool:
        refusals = sorted(pool.map(attempt, (1, 2)))
    assert refusals[0] == "" and "has changed since you read it" in refusals[1]
    assert sorted(stages(database).values()) == ["candidate", "champion"]
    with ThreadPoolExecutor() as pool:  # from any revision they take turns; one is the champion already
        list(pool.map(lambda number: _any(lambda: promote(database, number)), (1, 2, 1, 2)))
    assert sorted(stages(database).values()) == ["champion", "retired"]


def _any(act: Callable[[], None]) -> None:
    try:
        act()
    except Conflict as error:
        assert "is already champion" in error.message


def test_two_first_registrations_of_a_name_give_two_versions(
    database: Database, settings: Settings, exports: list[int]
) -> None:
    with ThreadPoolExecutor() as pool:
        numbers = sorted(pool.map(lambda export_id: register(database, settings, export_id), exports[:2]))
    assert numbers == [1, 2]


def test_the_database_refuses_a_second_champion(database: Database, settings: Settings, exports: list[int]) -> None:
    for export_id in exports[:2]:
        register(database, settings, export_id)
    with pytest.raises(IntegrityError), database.transaction() as session:
        session.execute(update(ModelVersionRow).values(stage_name=Stage.CHAMPION.value))


def test_what_is_registered_is_not_deleted_until_it_is_retired(
    database: Database, settings: Settings, files: Files, exports: list[int]
) -> None:
    register(database, settings, exports[0], stage="champion")
    with database.reading() as session:
        version = registry.champion(session, NAME)
        run_id, study_id = version.run_id, version.study_id
    assert study_id is not None
    remedy = f"Export {exports[0]} is champion 1 of {NAME} in the registry. Retire that version first."
    with pytest.raises(Conflict, match=remedy), database.transaction() as session:
        model_exports.delete(session, files, exports[0])
    with pytest.raises(Conflict, match=remedy), database.transaction() as session:
        deletion.delete_study(session, files, study_id)
    with database.transaction() as session:
        model_exports.delete(session, files, exports[1])  # no name has it
        assert str(deletion.of_study(session, study_id).refused) == remedy
    promote(database, 1, "retired", reason="no longer used")
    with database.transaction() as session:
        deletion.delete_study(session, files, study_id)
    with database.reading() as session:
        [row] = queries.versions(session, [queries.get(session, NAME).id])
        assert (row.export_id, row.exported_as, row.run_id, bool(row.receipt)) == (None, exports[0], run_id, True)
    with pytest.raises(Conflict, match=f"The export of {NAME} 1 was deleted. Export run {run_id} again"):
        promote(database, 1)

"""An object becomes private either before or after another user uses it, also on PostgreSQL, where both may happen at
once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.domain.accounts.ownership import Viewer, Visibility
from app.domain.errors import Conflict, Invalid
from app.domain.methods import FullSpec
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.features.shipping.tables import ModelVersionRow, RegisteredModelRow
from app.services.ownership import ownership
from app.services.ownership.ownership import Kind, OwnershipChange
from app.services.runs import runs
from app.services.studies import studies
from app.store.database.session import Database
from app.store.tables import BaseModelRow, DatasetRow, RunRow
from tests.integration.workers.test_device_locks import until_waiting
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import SPEC

OWNER, OTHER = Viewer(1), Viewer(2)
PRIVATE = OwnershipChange(visibility=Visibility.PRIVATE)
Step = tuple[Viewer, Callable[[Session], Any]]


@pytest.fixture
def shared(registered: Database) -> Database:
    """The tiny model and its dataset belong to the owner and are visible to the team."""
    with registered.transaction() as session:
        for table in (BaseModelRow, DatasetRow):
            session.query(table).one().give(OWNER.user_id, Visibility.TEAM)
    return registered


def hide(kind: Kind, key: str) -> Step:
    return OWNER, lambda session: ownership.change(session, kind, key, PRIVATE)


def outcome_of_the_second(db: Database, first: Step, second: Step) -> BaseException | None:
    """Take a step, take another one until it waits for the first, and commit the first. What the second raises."""

    def taken() -> None:
        with db.seen_by(second[0]).transaction() as session:
            second[1](session)

    with ThreadPoolExecutor(1) as pool:
        with db.seen_by(first[0]).transaction() as session:
            first[1](session)
            waiting = pool.submit(taken)
            until_waiting(db)
        return waiting.exception(30)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_run_and_a_change_of_what_it_uses_take_turns(shared: Database, bell: SilentBell) -> None:
    use: Step = OTHER, lambda session: runs.submit(session, bell, SPEC)
    for kind, key in (("datasets", "small"), ("models", "tiny")):
        refused = outcome_of_the_second(shared, use, hide(kind, key))
        assert isinstance(refused, Conflict) and "others see use this" in refused.message
        with shared.transaction() as session:
            session.query(RunRow).delete()
        refused = outcome_of_the_second(shared, hide(kind, key), use)
        assert isinstance(refused, Invalid) and "is private" in refused.fields[0].message
        with shared.transaction() as session:
            for table in (BaseModelRow, DatasetRow):
                session.query(table).one().give(OWNER.user_id, Visibility.TEAM)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_registration_and_a_change_of_its_study_take_turns(shared: Database, bell: SilentBell) -> None:
    arms = [ArmSpec(method=SPEC.method), ArmSpec(method=FullSpec())]
    spec = StudySpec(name="s", base_model="tiny", dataset="small", arms=arms)
    with shared.seen_by(OWNER).transaction() as session:
        study = studies.submit(session, bell, spec)
    with shared.reading() as session:
        run_id = session.query(RunRow).first().id

    def register(session: Session) -> None:
        ownership.require_team(session, run_id)
        version = ModelVersionRow(model=RegisteredModelRow(name="m"), run_id=run_id, study_id=study.id, receipt="")
        version.number, version.exported_as, version.format = 1, 1, "adapter"
        version.stage_name, version.gate_name = "candidate", "passed"
        session.add(version)

    private = hide("studies", str(study.id))
    refused = outcome_of_the_second(shared, (OTHER, register), private)
    assert isinstance(refused, Conflict) and "The registry has an export" in refused.message
    with shared.transaction() as session:
        session.query(ModelVersionRow).delete()
    refused = outcome_of_the_second(shared, private, (OTHER, register))
    assert isinstance(refused, Invalid) and "all users see the registry" in refused.fields[0].message

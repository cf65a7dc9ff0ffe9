"""The order of the queue where studies queue more than one run, on SQLite and on PostgreSQL."""

import pytest
from sqlalchemy import event, update

from app.domain.errors import Forbidden, Invalid
from app.domain.runs.listing.queue import Priority
from app.domain.studies.arms import ArmSpec
from app.services.studies import studies
from app.store.database.session import Database
from app.store.tables import RunRow, StudyRow
from tests.features.quotas.test_quotas import submit_study
from tests.integration.workers.test_queue_order import admin, change, change_study, entries, of_study, pair
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.attempted import claim, in_transaction, submit

__all__ = ["admin", "pair"]


def test_what_a_member_adds_to_a_raised_study_is_not_raised(
    registered: Database, pair: list[Database], admin: Database, bell: SilentBell
) -> None:
    study = submit_study(pair[0], bell, seeds=[0])
    first = [run.id for run in of_study(registered, study)]
    change_study(admin, bell, study, priority="high")
    in_transaction(pair[0], lambda s: studies.add_seeds(s, bell, study, 1))
    arm = ArmSpec.model_validate({"method": {"kind": "lora"}})
    in_transaction(pair[0], lambda s: studies.add_arm(s, bell, study, arm))
    levels = {run.id: run.priority for run in of_study(registered, study)}
    assert {run_id for run_id, level in levels.items() if level is Priority.HIGH} == set(first) and len(levels) == 6
    change(admin, bell, first[0], priority="low")
    with pytest.raises(Forbidden):
        change_study(pair[0], bell, study, priority="high")
    change_study(pair[0], bell, study, priority="low")
    in_transaction(pair[0], lambda s: studies.add_seeds(s, bell, study, 1))
    assert {run.priority for run in of_study(registered, study)} == {Priority.LOW}


def test_a_pause_of_a_study_ends_with_its_cancellation_or_its_last_paused_run(
    registered: Database, pair: list[Database], bell: SilentBell
) -> None:
    def is_paused(study_id: int) -> bool:
        with registered.reading() as session:
            return session.get_one(StudyRow, study_id).paused

    study = submit_study(pair[0], bell, seeds=[0])
    [one, two] = [run.id for run in of_study(registered, study)]
    change_study(pair[0], bell, study, paused=True)
    change(pair[0], bell, one, paused=False)
    assert is_paused(study)
    change(pair[0], bell, two, paused=False)
    assert not is_paused(study), "what it queues next is not paused either"
    change_study(pair[0], bell, study, paused=True)
    in_transaction(pair[0], lambda s: studies.cancel(s, bell, study))
    assert not is_paused(study)
    change_study(pair[0], bell, study, paused=True, priority="low")
    in_transaction(registered, lambda s: s.execute(update(RunRow).values(status="succeeded")))
    change_study(pair[0], bell, study, paused=False)
    assert not is_paused(study), "it can be resumed when nothing waits"


def test_a_study_moves_while_one_of_its_runs_trains(
    registered: Database, pair: list[Database], bell: SilentBell
) -> None:
    """The runs are locked by id, running ones too: a cancellation of the running one then waits, and none deadlocks."""
    study, single = submit_study(pair[0], bell, seeds=[0]), submit(pair[0], bell)
    [one, two] = [run.id for run in of_study(registered, study)]
    assert claim(registered, one) is not None
    locks = []
    note = lambda *args: locks.append(args[2]) if "FROM runs" in args[2] and "ORDER BY" in args[2] else None  # noqa: E731
    event.listen(registered.engine, "before_cursor_execute", note)
    change_study(pair[0], bell, study, move="last")
    event.remove(registered.engine, "before_cursor_execute", note)
    assert " OR " in locks[0] and "study_id" in locks[0], "the first lock has all that the move touches"
    assert [entry.run.id for entry in entries(pair[0]) if entry.run] == [single, two]


def test_a_study_does_not_move_before_its_own_run_and_paused_runs_are_always_listed(
    pair: list[Database], bell: SilentBell
) -> None:
    study, single = submit_study(pair[0], bell, seeds=[0]), submit(pair[0], bell)
    [one, two] = [run.id for run in of_study(pair[0], study)]
    with pytest.raises(Invalid, match=f"Run {two} is among those that move"):
        change_study(pair[0], bell, study, before=two)
    change(pair[0], bell, single, paused=True)
    assert [entry.run.id for entry in entries(pair[0], limit=2) if entry.run] == [one, two, single]

"""A run that has ended trains again, for tests of what follows a run."""

from typing import Any

from sqlalchemy import update

from app.store.database.session import Database
from app.store.runs import evaluations
from app.store.runs import steps as step_rows
from app.store.tables import RunRow


class Training:
    """A run of the filled database that trains again: its steps arrive in parts."""

    def __init__(self, database: Database, run_id: int) -> None:
        self.database, self.run_id = database, run_id
        with database.reading() as session:
            row = session.get_one(RunRow, run_id)
            self.steps = step_rows.read(session, run_id)
            assert row.result is not None
            tested = row.result.evaluations[-1]
            self.validated = tested.model_copy(update={"split": "validation", "step": 300})
            """What `evaluate` reports."""
            self.ended = {name: getattr(row, name) for name in ("status", "finished_at", "result_json", "score")}
        self.change(status="running", finished_at=None, result_json=None, score=None)
        self.report(0)

    def change(self, **values: Any) -> None:
        """Change the run."""
        with self.database.transaction() as session:
            session.execute(update(RunRow).where(RunRow.id == self.run_id).values(**values))

    def report(self, last: int, *, later: float = 0.0) -> None:
        """Its steps until one of them, `later` by some seconds."""
        steps = self.steps[:last].copy()
        steps["seconds"] += later
        with self.database.transaction() as session:
            step_rows.clear(session, self.run_id)
            step_rows.append(session, self.run_id, steps)
            session.get_one(RunRow, self.run_id).step = last

    def evaluate(self) -> None:
        """An evaluation on the validation split is done."""
        with self.database.transaction() as session:
            evaluations.add(session, self.run_id, self.validated, [], [])

    def end(self) -> None:
        """All of its steps and its result."""
        self.report(len(self.steps))
        self.change(**self.ended)

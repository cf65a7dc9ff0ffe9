"""The figures of a run by name: which there are, and what each reads from the store."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy.orm import Session

from app.domain.methods import METHODS
from app.domain.models.weight_delta import WeightDeltas
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.status import RunStatus
from app.services.resources import memory_fit
from app.settings import Settings
from app.store.queries import evaluations, runs, steps, weight_deltas
from app.store.tables import RunRow
from app.web.figures import run_costs, run_steps
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.figure import Figure, choose
from app.web.figures.matrices import run_matrices
from app.web.figures.run_steps import RunCurves
from app.web.figures.weight_delta import run_energy


@dataclass(frozen=True)
class RunData:
    """What the figures of a run are made of; each part is read when a figure first asks for it."""

    session: Session
    settings: Settings
    run_id: int

    @cached_property
    def row(self) -> RunRow:
        """The run. Raises NotFound."""
        return runs.get(self.session, self.run_id)

    @cached_property
    def fit(self) -> RunFit:
        """What was estimated."""
        return memory_fit.run_fit(self.session, None, self.settings, self.row)

    @cached_property
    def updates(self) -> WeightDeltas | None:
        """What training did to each matrix."""
        return weight_deltas.of_runs(self.session, [self.run_id]).get(self.run_id)

    @cached_property
    def curves(self) -> RunCurves:
        """What it has reported so far."""
        validation = evaluations.of_runs(self.session, [self.run_id], "validation")
        return RunCurves(
            method_kind=self.row.method_kind,
            task=self.row.spec.task,
            status=RunStatus(self.row.status),
            total_steps=self.row.total_steps,
            steps=steps.read(self.session, self.run_id),
            validation=[(e.step, e.loss) for e in validation if e.subject == "adapted" and e.loss is not None],
            result=self.row.result,
            fit=self.fit,
        )


def run_figures(data: RunData) -> Mapping[str, Callable[[], Figure]]:
    """The builders of a run's figures by name: loss and memory by step; memory by owner and clocks where there is a
    result, memory by owner alone where it ran out."""
    figures: dict[str, Callable[[], Figure]] = {
        "loss": lambda: run_steps.loss(data.curves),
        "memory": lambda: run_steps.memory(data.curves),
    }
    result, failure = data.row.result, data.row.failure
    if result:
        figures["owners"] = lambda: run_costs.owners(result.memory, data.fit)
        figures["clocks"] = lambda: run_costs.clocks(result.clocks, data.fit)
        if (updates := data.updates) and updates.matrices:
            family = METHODS[data.row.method_kind].family
            figures["weight-delta"] = lambda: run_energy(MarkStyle("ΔW", family), updates)
            figures["matrices"] = lambda: run_matrices(MarkStyle(data.row.spec.method.label, family), updates)
    elif failure and failure.ledger:
        ledger = failure.ledger
        figures["owners"] = lambda: run_costs.out_of_memory(ledger, data.fit)
    return figures


def run_figure(data: RunData, name: str) -> Figure:
    """A run's figure. Raises NotFound, naming the choices."""
    return choose(run_figures(data), name)()

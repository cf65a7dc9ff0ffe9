"""The figures of a run by name: which there are, and what each reads from the store."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy.orm import Session

from app.domain.methods import METHODS
from app.domain.models.weight_delta import WeightDeltas
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.result import Steps
from app.services.resources import memory_fit
from app.settings import Settings
from app.store.data import queries as datasets
from app.store.runs import evaluations, steps, weight_deltas
from app.store.runs import queries as runs
from app.store.tables import EvaluationRow, RunRow
from app.web.figures.curves import run_steps
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.figure import Figure, choose
from app.web.figures.resources import run_costs
from app.web.figures.runs.confusion import confusion_matrix
from app.web.figures.runs.matrices import run_matrices
from app.web.figures.runs.weight_delta import run_energy


@dataclass(frozen=True)
class RunData:
    """What the figures of a run need; each part is read when a figure first needs it."""

    session: Session
    settings: Settings
    run_id: int

    @cached_property
    def row(self) -> RunRow:
        """The run. Raises NotFound."""
        return runs.get(self.session, self.run_id)

    @cached_property
    def fit(self) -> RunFit:
        return memory_fit.run_fit(self.session, None, self.settings, self.row)

    @cached_property
    def updates(self) -> WeightDeltas | None:
        return weight_deltas.of_runs(self.session, [self.run_id]).get(self.run_id)

    @cached_property
    def labels(self) -> list[str]:
        dataset = datasets.by_id(self.session, self.row.dataset_id)
        return dataset.facts.labels if dataset else []

    @cached_property
    def steps(self) -> Steps:
        return steps.read(self.session, self.run_id)

    @cached_property
    def validation(self) -> list[EvaluationRow]:
        rows = evaluations.of_runs(self.session, [self.run_id], "validation")
        return [row for row in rows if row.subject == "adapted"]


def run_figures(data: RunData) -> Mapping[str, Callable[[], Figure]]:
    """The builders of a run's figures by name: loss and memory by step; memory by owner and clocks where there is a
    result, memory by owner alone where it ran out."""
    figures: dict[str, Callable[[], Figure]] = {
        "loss": lambda: run_steps.loss(data.row, data.steps, data.validation),
        "memory": lambda: run_steps.memory(data.row, data.steps, data.fit),
    }
    if data.row.reported_run:  # trained elsewhere: there is no estimate
        return {"loss": figures["loss"]}
    result, failure = data.row.result, data.row.failure
    if result:
        figures["owners"] = lambda: run_costs.owners(result.memory, data.fit)
        if result.confusion and data.labels:
            confusion, style = result.confusion, MarkStyle("", METHODS[data.row.method_kind].family)
            figures["confusion"] = lambda: confusion_matrix(confusion, data.labels, style)
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

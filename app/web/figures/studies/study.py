"""The figures of a study by name: which there are, and what each reads from the store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy.orm import Session

from app.domain.comparison.study import StudyComparison
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.result import Steps
from app.services.resources import memory_fit
from app.services.studies import studies as study_service
from app.settings import Settings
from app.store.runs import evaluations, steps, weight_deltas
from app.store.runs import queries as runs
from app.store.tables import EvaluationRow
from app.web.figures.curves.curves import curves
from app.web.figures.figure import Figure, choose
from app.web.figures.resources.break_even import break_even
from app.web.figures.resources.memory import memory
from app.web.figures.resources.time import time
from app.web.figures.runs.matrices import study_matrices
from app.web.figures.runs.scores import scores
from app.web.figures.runs.weight_delta import ArmDelta, study_energy
from app.web.figures.studies.trade_off import trade_off
from app.web.figures.studies.tuning import tuning
from app.web.figures.studies.verdict import verdict
from app.web.figures.studies.view import ViewParams


@dataclass(frozen=True)
class StudyData:
    """What the figures of a study need; each part is read when a figure first needs it."""

    session: Session
    settings: Settings
    study_id: int

    @cached_property
    def comparison(self) -> StudyComparison:
        """Comparison of its arms. Raises NotFound."""
        return study_service.comparison(self.session, self.study_id)

    @cached_property
    def steps(self) -> Mapping[int, Steps]:
        """Every step of every run, by run."""
        return steps.read_many(self.session, self._runs)

    @cached_property
    def validation(self) -> Mapping[int, Sequence[EvaluationRow]]:
        """Evaluations on the validation split, by run."""
        by_run: dict[int, list[EvaluationRow]] = {}
        for row in evaluations.of_runs(self.session, self._runs, "validation"):
            by_run.setdefault(row.run_id, []).append(row)
        return by_run

    @cached_property
    def estimates(self) -> Mapping[str, RunFit]:
        """What was estimated for each arm: for its first run that succeeded, since its seeds need the same."""
        estimates = {}
        for arm in self.comparison.arms:
            if arm.succeeded:
                run = runs.get(self.session, arm.succeeded[0].run_id)
                fit = memory_fit.run_fit(self.session, None, self.settings, run)
                if fit.peak:
                    estimates[arm.title] = fit
        return estimates

    @cached_property
    def deltas(self) -> Mapping[str, ArmDelta]:
        """The weight updates of each arm with an analysed run: the first seed's spectra, and every seed's summary."""
        summaries = weight_deltas.summaries(self.session, self._runs)
        analysed = {
            arm.title: [run for run in arm.succeeded if run.run_id in summaries] for arm in self.comparison.arms
        }
        first = {title: seeds[0] for title, seeds in analysed.items() if seeds}
        updates = weight_deltas.of_runs(self.session, [run.run_id for run in first.values()])
        return {
            title: ArmDelta(
                run_id=run.run_id,
                seed=run.seed,
                updates=updates[run.run_id],
                effective_ranks=tuple(s.effective_rank for r in analysed[title] if (s := summaries[r.run_id])),
            )
            for title, run in first.items()
        }

    @property
    def _runs(self) -> list[int]:
        return [run.run_id for run in self.comparison.runs]


FIGURES: Mapping[str, Callable[[StudyData, ViewParams], Figure]] = {
    "verdict": lambda data, view: verdict(data.comparison),
    "trade-off": lambda data, view: trade_off(data.comparison, view.x, view.y),
    "curves": lambda data, view: curves(data.comparison, data.steps, data.validation, view),
    "memory": lambda data, view: memory(data.comparison, data.estimates),
    "time": lambda data, view: time(data.comparison, data.estimates),
    "weight-delta": lambda data, view: study_energy(data.comparison, data.deltas),
    "matrices": lambda data, view: study_matrices(data.comparison, data.deltas, view),
    "break-even": lambda data, view: break_even(data.comparison, view),
    "tuning": lambda data, view: tuning(data.comparison),
    "scores": lambda data, view: scores(data.comparison),
}
"""By the name in a figure's address; each line says what the figure reads."""


def study_figure(data: StudyData, view: ViewParams, name: str) -> Figure:
    """A study's figure. Raises NotFound, naming the choices."""
    return choose(FIGURES, name)(data, view)

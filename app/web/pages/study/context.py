"""The context of a study's page: the verdict, its evidence, and where its runs stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from app.domain.comparison.baselines import unfinished
from app.domain.comparison.learning.causes import Causes
from app.domain.comparison.learning.run_learning import RunLearning
from app.domain.comparison.model import RunOutcome
from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.models.base_model import ModelFacts
from app.domain.models.weight_delta import WeightDeltaSummary
from app.domain.resources.calibration import EstimateBand
from app.domain.runs.result import Steps
from app.services.runs import annotations
from app.services.runs.annotations import Notes
from app.services.studies import studies as study_service
from app.services.studies.learning import causes_of
from app.store.data import queries as datasets
from app.store.files.files import Files
from app.store.models import queries as base_models
from app.web.address import Address
from app.web.figures.curves.axes import QUANTITIES, X_AXES
from app.web.figures.drawing.axes import axis_options
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.figure import Drawn, drawn
from app.web.figures.resources.time import train_estimates
from app.web.figures.runs.confusion import confusion_matrix
from app.web.figures.runs.weight_delta import Deltas, drawable
from app.web.figures.studies.arms_table import ArmsTable
from app.web.figures.studies.study import StudyData, study_figure
from app.web.figures.studies.view import ViewParams
from app.web.pages.study.conditions import StudyConditions
from app.web.pages.study.flips import StudyFlips
from app.web.pages.study.progress import MoreSeeds, RunsProgress
from app.web.site import Part, study_parts
from app.words.format import capitalized, general
from app.words.i18n import gettext as _
from app.words.i18n import marked
from app.words.runs.weight_delta import MEASURES, explained


class LearningRun(NamedTuple):
    """A run with a result."""

    arm: StudyArm
    run: RunOutcome
    learned: RunLearning

    @property
    def score(self) -> float | None:
        """On the test split."""
        return float(self.run.scores.mean()) if self.run.scores is not None else None


class ReferenceConfusion(NamedTuple):
    """The confusion matrix of a run of the reference."""

    run: RunOutcome
    drawn: Drawn


def reference_confusion(study: StudyComparison) -> ReferenceConfusion | None:
    """Confusion matrix of its first seed; None where no run of it has one. Its files are those of the run."""
    for run in study.reference.succeeded:
        if run.result and (matrix := run.result.confusion) and matrix.answers and study.labels:
            figure = confusion_matrix(matrix, study.labels, MarkStyle("", study.reference.family))
            return ReferenceConfusion(run, drawn(figure, f"/runs/{run.run_id}/charts"))
    return None


def learning_runs(study: StudyComparison, steps: Mapping[int, Steps]) -> list[LearningRun]:
    return [
        LearningRun(arm, run, RunLearning.of(run.result, steps.get(run.run_id), study.labels))
        for arm in study.arms
        for run in arm.succeeded
        if run.result
    ]


@dataclass(frozen=True)
class StudyWeightDeltas:
    study: StudyComparison
    by_arm: Deltas
    view: ViewParams

    @property
    def arms(self) -> list[StudyArm]:
        """Those with a result."""
        return [arm for arm in self.study.arms if arm.succeeded]

    @property
    def mappable(self) -> list[tuple[str, str]]:
        """Arms whose matrices can be mapped, as options."""
        return [(arm.title, arm.title) for arm, _delta in drawable(self.study, self.by_arm)]

    @property
    def mapped(self) -> str:
        """The arm whose matrices are mapped."""
        return self.view.matrices_arm or self.mappable[0][0]

    @property
    def measures(self) -> list[tuple[str, str]]:
        return [(name, _(measure.title)) for name, measure in MEASURES.items()]

    @cached_property
    def largest(self) -> WeightDeltaSummary | None:
        """The summary over the most matrices, which describes them before training."""
        return max((summary for _arm, summary in self._summaries), key=lambda s: s.matrices, default=None)

    @property
    def explanation(self) -> str:
        return explained()

    @cached_property
    def _summaries(self) -> list[tuple[StudyArm, WeightDeltaSummary]]:
        return [(arm, delta.summary) for arm, delta in drawable(self.study, self.by_arm) if delta.summary]


Choice = tuple[str, str]
"""Value and title of an option."""
SMOOTHING_FACTORS = (0.0, 0.6, 0.9, 0.97, 0.99)


TABS = {
    "causes": marked("Causes"),
    "arms": marked("Arms"),
    "costs": marked("Costs"),
    "errors": marked("Errors"),
    "weights": marked("Weights"),
    "conditions": marked("Conditions"),
}
"""Titles of the page's tabs, by the last segment of their address."""


class Tab(NamedTuple):
    name: str
    title: str
    href: str


@dataclass(frozen=True)
class StudyPage:
    """A study. Templates read its comparison; what they need beside it is derived here. A figure is drawn, and what a
    tab shows is read, only when a template asks for it."""

    id: int
    data: StudyData
    view: ViewParams
    address: Address
    progress: RunsProgress
    model: ModelFacts | None
    conditions: StudyConditions
    files: Files
    notes: Notes
    parts: Sequence[Part]
    """What features add."""
    chosen: str = ""
    """The tab that the address names; empty for the first one."""

    @classmethod
    def of(cls, data: StudyData, files: Files, view: ViewParams, address: Address, chosen: str = "") -> "StudyPage":
        """A study as it stands. Raises NotFound."""
        session, study_id = data.session, data.study_id
        progress = study_service.progress(session, study_id)
        model = base_models.by_id(session, progress.study.base_model_id)
        return cls(
            id=study_id,
            data=data,
            view=view,
            address=address,
            progress=RunsProgress(data.comparison, progress),
            model=model.facts if model else None,
            conditions=StudyConditions(data.comparison, model, datasets.by_id(session, progress.study.dataset_id)),
            files=files,
            notes=annotations.notes_of(session, "studies", study_id),
            parts=study_parts(session, study_id, data.comparison),
            chosen=chosen,
        )

    def figure(self, name: str) -> Drawn:
        """A figure of FIGURES in this view."""
        return drawn(study_figure(self.data, self.view, name), f"/studies/{self.id}/charts", self.view.query(name))

    @cached_property
    def flips(self) -> StudyFlips | None:
        """None until an arm has a result."""
        return StudyFlips.of(self.data.session, self.files, self.id, self.study)

    @cached_property
    def tabs(self) -> list[Tab]:
        """Those that have something to show. A tab's link keeps the view."""
        shown = {
            "causes": self.study.learning.nothing,
            "costs": self.has_results,
            "errors": self.flips is not None,
            "weights": any(arm.succeeded for arm in self.study.arms),
        }
        return [Tab(name, _(title), self.tab_address(name)) for name, title in TABS.items() if shown.get(name, True)]

    @property
    def tab(self) -> str:
        """The tab that is shown: the first one where the address names none, or one that is empty. Prices that are
        wrong are shown with their field."""
        names = [tab.name for tab in self.tabs]
        chosen = "costs" if self.view.errors else self.chosen
        return chosen if chosen in names else names[0]

    def tab_address(self, name: str) -> str:
        """Of a tab, in this view."""
        return f"/studies/{self.id}/{name}{self.address.words}"

    def chooses(self, *names: str) -> bool:
        """The address has one of these view parameters, so what it draws is open."""
        return any(name in names for name, _word in self.address.query)

    @property
    def study(self) -> StudyComparison:
        return self.data.comparison

    @property
    def live(self) -> bool:
        """Runs are queued or running, or will be."""
        return not self.study.complete

    @property
    def awaits_baselines(self) -> bool:
        """No run is left, and baselines are still being computed."""
        return not self.live and bool(unfinished(self.study.baselines))

    @property
    def has_results(self) -> bool:
        """An arm has a score."""
        return any(arm.score for arm in self.study.arms)

    @cached_property
    def causes(self) -> Causes:
        return causes_of(self.data.session, self.id, self.study)

    @property
    def learning_runs(self) -> list[LearningRun]:
        """What each run learned, where nothing was."""
        return learning_runs(self.study, self.data.steps)

    @cached_property
    def confusion(self) -> ReferenceConfusion | None:
        """What the reference answers, where nothing was learned; None without labels."""
        return reference_confusion(self.study)

    @cached_property
    def picture(self) -> Drawn:
        """Beside the verdict: differences from the reference, or the scores that stand in their place."""
        return self.figure("scores" if self.study.learning.closed else "verdict")

    @cached_property
    def table(self) -> ArmsTable:
        """The arms, in the order that the address names."""
        return ArmsTable.of(self.study, self.address, self.view.sort)

    @cached_property
    def weight_deltas(self) -> StudyWeightDeltas:
        return StudyWeightDeltas(self.study, self.data.deltas, self.view)

    @property
    def axes(self) -> Sequence[Choice]:
        """Axes of the trade-off on which an arm was measured, and those that are shown."""
        return axis_options(self.study, self.view.x, self.view.y)

    @property
    def quantities(self) -> list[Choice]:
        return [(name, capitalized(quantity.title(self.study))) for name, quantity in QUANTITIES.items()]

    @property
    def x_axes(self) -> list[Choice]:
        return [(name, capitalized(axis.name())) for name, axis in X_AXES.items()]

    @property
    def smoothing_factors(self) -> list[Choice]:
        """The usual ones, and the one in use."""
        factors = sorted({*SMOOTHING_FACTORS, self.view.smooth})
        return [(f"{factor:g}", general(factor) if factor else _("none")) for factor in factors]

    @property
    def train_estimates(self) -> list[tuple[StudyArm, float, EstimateBand]]:
        """Arms with an estimated train time: what was measured, and the estimate."""
        return train_estimates(self.study, self.data.estimates)

    @property
    def takes_energy_price(self) -> bool:
        """A device has counted energy, or a price was typed in."""
        return bool(self.view.kwh) or any(run.result.energy_joules for run in self.study.runs if run.result)

    @property
    def more_seeds(self) -> MoreSeeds | None:
        """None while runs are to come, and where more seeds would decide nothing."""
        return None if self.live else MoreSeeds.of(self.study, self.progress.seconds_per_run)

    @property
    def at_edge(self) -> list[StudyArm]:
        """Arms whose best rate is at the edge of the rates tried, once all runs have ended."""
        return [arm for arm in self.study.arms if arm.tuning and arm.tuning.further] if self.study.complete else []

    @property
    def rates_first(self) -> bool:
        """An arm is not decided and a search for rates can be widened: seeds come after that, since they measure the
        rates that were chosen."""
        open_kinds = (VerdictKind.UNDECIDED, VerdictKind.HINT)
        return bool(self.at_edge) and any(arm.verdict_kind in open_kinds for arm in self.study.others)

    @property
    def other_references(self) -> Sequence[StudyArm]:
        """Arms with a result, if there are two at least and the reference has ended without one. A comparison with one
        of them is no verdict of this study, and the page that compares any runs says so."""
        arms = [arm for arm in self.study.others if arm.score is not None]
        return arms if self.study.reference.over and len(arms) > 1 else []

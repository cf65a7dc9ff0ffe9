"""The fifth step: the learner's own study figure by figure, and exact numbers of parameters."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from app.features.lab.pages.topics.calculator import Calculator, course_numbers
from app.features.lab.services import learner as lab
from app.features.lab.services.learner import OwnStudy
from app.settings import Settings
from app.web.figures.figure import Drawn, drawn
from app.web.figures.studies.study import StudyData, study_figure
from app.web.figures.studies.view import ViewParams

EXPLAINED = ("verdict", "memory", "time", "trade-off")
"""Figures of a study in the order in which the page explains them."""


@dataclass(frozen=True)
class FullOrPeft:
    """What the step shows."""

    calculator: Calculator
    course: tuple[int, int]
    """All parameters of the course's third example, and those that LoRA trains."""
    own: OwnStudy | None
    """None until a study has results of full fine-tuning and LoRA."""
    others: tuple[OwnStudy, ...]
    """Studies to choose from."""
    figures: Mapping[str, Drawn]

    @classmethod
    def of(cls, session: Session, settings: Settings, query: QueryParams) -> "FullOrPeft":
        """From the address: `study` chooses another study than the newest."""
        found = tuple(lab.own_studies(session))
        own = next((study for study in found if str(study.row.id) == query.get("study")), found[0] if found else None)
        figures = {}
        if own:
            data, view, base = StudyData(session, settings, own.row.id), ViewParams(), f"/studies/{own.row.id}/charts"
            figures = {name: drawn(study_figure(data, view, name), base) for name in EXPLAINED}
        return cls(Calculator.of(session, query), course_numbers(), own, found, figures)

    @property
    def times_fewer(self) -> float:
        """How many times fewer parameters LoRA trains in the learner's study."""
        if not (self.own and self.own.full.costs and self.own.lora.costs):
            return 0.0
        return self.own.full.costs.trainable_parameters / self.own.lora.costs.trainable_parameters

"""The context of a study's report: its page, the figures that the page leaves to a click, and how to repeat it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

from app.domain.studies.spec import StudySpec
from app.web.figures.figure import Drawn
from app.web.pages.study.context import StudyPage
from app.web.specs import as_yaml


@dataclass(frozen=True)
class StudyReport:
    """A study in one file."""

    study: StudyPage
    more: tuple[Drawn, ...]
    """Figures that the page does not show as it is looked at."""
    spec: str
    """YAML, for `vezna submit`."""
    made_at: datetime
    version: str
    """Of Vezna."""
    css: str

    @classmethod
    def of(
        cls, study: StudyPage, figures: Mapping[str, Drawn], spec: StudySpec, *, made_at: datetime, css: str
    ) -> "StudyReport":
        """From the page and every figure by its name."""
        more = tuple(drawn for name, drawn in figures.items() if name not in study.figures and not drawn.figure.empty)
        return cls(study, more, as_yaml(spec), made_at, version("vezna"), css)

"""The weight deltas of a study: what training changed in each matrix, arm by arm."""

from dataclasses import dataclass
from functools import cached_property

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.models.weight_delta import WeightDeltaSummary
from app.web.figures.runs.weight_delta import Deltas, drawable
from app.web.figures.studies.view import ViewParams
from app.words.i18n import gettext as _
from app.words.runs.weight_delta import MEASURES, MOST_SAID, arm_sentence, explained, weight_sentence


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

    @cached_property
    def sentences(self) -> list[str]:
        """On the first arms, and on the matrices before training."""
        of_arms = [arm_sentence(arm, summary) for arm, summary in self._summaries[:MOST_SAID]]
        return [*of_arms, *([weight_sentence(self.largest)] if self.largest else [])]

    @property
    def explanation(self) -> str:
        return explained()

    @cached_property
    def _summaries(self) -> list[tuple[StudyArm, WeightDeltaSummary]]:
        return [(arm, delta.summary) for arm, delta in drawable(self.study, self.by_arm) if delta.summary]

"""The arms of a study by a judge model's scores, as its page and that of its judgements show them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from app.domain.comparison.statistics.judged import JudgedArm
from app.domain.studies.spec import StudySpec
from app.features.judging.queries import judgements
from app.features.judging.queries.judgements import Looks
from app.features.judging.services import judgements as service
from app.features.judging.tables import JudgementRow
from app.features.judging.words import judged_difference
from app.web.bars import MarginScale
from app.words.i18n import gettext as _


@dataclass(frozen=True)
class JudgedArms:
    """A judgement with its arms; without any before it has succeeded."""

    spec: StudySpec
    row: JudgementRow
    arms: Sequence[JudgedArm]
    looks: Looks | None = None
    """Of the newest one."""

    @classmethod
    def of(cls, session: Session, spec: StudySpec, row: JudgementRow) -> "JudgedArms":
        """By the ratings of people so far."""
        return cls(spec, row, [arm for arm in service.arms_of(session, row) if arm.seeds])

    @classmethod
    def newest(cls, session: Session, spec: StudySpec, study_id: int) -> "JudgedArms | None":
        """Of the newest judgement of a study that has succeeded."""
        row = judgements.newest_result(session, study_id)
        return replace(cls.of(session, spec, row), looks=judgements.looks(session, study_id)) if row else None

    @property
    def margin(self) -> float:
        """Of the study, as a fraction."""
        return self.spec.margin_points / 100

    @property
    def unrated(self) -> str:
        """The arms whose difference has an unknown error of the judge; empty without any."""
        return ", ".join(arm.title for arm in self.arms if arm.corrected and not arm.error)

    def family(self, title: str) -> str:
        """The family of an arm's method, for its colour."""
        return next(arm.method.facts.family for arm in self.spec.arms if arm.title == title)

    def scale(self, arm: JudgedArm) -> MarginScale:
        """An arm's difference to the reference; of one that has none the mark is at 0."""
        label = _("%(by)s points", by=judged_difference(arm))
        delta = arm.corrected.delta if arm.corrected else 0.0
        return MarginScale.placed(delta, arm.low, arm.high, arm.margin, label)

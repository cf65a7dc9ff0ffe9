"""The arms of a study: their table, and what is shown beside their names."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.models.base_model import ModelFacts
from app.domain.runs.status import RunStatus
from app.web.address import Address
from app.web.figures.arms_table import ArmsTable
from app.web.i18n import gettext as _
from app.web.text.arms import settings
from app.web.text.failures import failure_label


@dataclass(frozen=True)
class ArmNotes:
    """What is shown below an arm's name."""

    settings: str
    state: str
    """Why it has no runs, or no more of them; empty where it has what it owes."""
    failed: tuple[tuple[int, int, str], ...]
    """Id, seed and reason of each run that ended without a result."""


@dataclass(frozen=True)
class StudyArms:
    """The arms of a study."""

    table: ArmsTable
    notes: Mapping[str, ArmNotes]
    """By the title of the arm."""
    reference: StudyArm

    @classmethod
    def of(cls, study: StudyComparison, model: ModelFacts | None, address: Address, sort: str) -> "StudyArms":
        """In the order of a column: `memory`, or `-memory` for the largest first."""
        notes = {
            arm.title: ArmNotes(
                settings=settings(arm, model, study.spec.task),
                state=_state(arm),
                failed=tuple(
                    (
                        run.run_id,
                        run.seed,
                        failure_label(run.failure)
                        if run.failure and run.status is not RunStatus.CANCELLED
                        else _("cancelled"),
                    )
                    for run in arm.failed
                ),
            )
            for arm in study.arms
        }
        return cls(ArmsTable.of(study, address, sort), notes, study.reference)


def _state(arm: StudyArm) -> str:
    if arm.stopped:
        return _("stopped")
    if arm.untrainable:
        reason = _(": %(why)s", why=failure_label(arm.failure)) if arm.failure else ""
        return _("no learning rate could be trained") + reason
    return _("its learning rate is being tuned") if arm.awaits_rate else ""

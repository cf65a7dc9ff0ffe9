"""What each run of a study learned: its most frequent prediction, its training loss, its best evaluation."""

from collections.abc import Mapping
from typing import NamedTuple

from app.domain.comparison.learning.run_learning import RunLearning
from app.domain.comparison.model import RunOutcome
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.runs.result import Steps
from app.web.figures.drawing.theme import MarkStyle
from app.web.figures.figure import Drawn, drawn
from app.web.figures.runs.confusion import confusion_matrix


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

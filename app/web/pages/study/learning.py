"""What each run of a study learned: its most frequent prediction, its training loss, its best evaluation."""

from collections.abc import Mapping
from typing import NamedTuple

from app.domain.comparison.model import RunOutcome
from app.domain.comparison.run_learning import RunLearning
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.runs.result import Steps


class LearningRun(NamedTuple):
    """A run with a result."""

    arm: StudyArm
    run: RunOutcome
    learned: RunLearning

    @property
    def score(self) -> float | None:
        """On the test split."""
        return float(self.run.scores.mean()) if self.run.scores is not None else None


def learning_runs(study: StudyComparison, steps: Mapping[int, Steps]) -> list[LearningRun]:
    """Of every arm."""
    return [
        LearningRun(arm, run, RunLearning.of(run.result, steps.get(run.run_id), study.labels))
        for arm in study.arms
        for run in arm.succeeded
        if run.result
    ]

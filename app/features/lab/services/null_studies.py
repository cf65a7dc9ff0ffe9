"""The A/A studies of the Lab: whose item scores they are drawn from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from app.domain.comparison.model import RunOutcome
from app.domain.comparison.statistics.score_matrices import common_items, matrices
from app.domain.runs.status import RunStatus
from app.features.lab.rules import null_studies
from app.features.lab.rules.null_studies import NullStudies
from app.features.lab.services import learner as lab
from app.store.runs import evaluations
from app.store.runs import queries as runs
from app.store.tables import StudyRow

LEAST_VARIATION = 0.02
"""Share of the items that seeds score differently: one of the 50 that a study draws."""


@dataclass(frozen=True)
class ScoreSource:
    """An arm with two seeds or more whose item scores are stored."""

    study: StudyRow
    arm: str
    seeds: int
    scores: NDArray[np.float64] = field(repr=False)
    """[S, N]."""

    @property
    def items(self) -> int:
        return int(self.scores.shape[1])

    def drawn(self, seed: int) -> Sequence[NullStudies]:
        """A/A studies by number of items, the smallest first; kept by scores and seed."""
        return _drawn(self.scores.tobytes(), self.seeds, seed)


def sources(session: Session) -> Iterator[ScoreSource]:
    """One arm of each study that has one, the newest study first: LoRA's, else the arm with the most seeds. Without
    items that its seeds score differently, no pair of them would have a lead."""
    for study, _shown in lab.teaching_studies(session):
        done = [
            run
            for run in runs.of_study(session, study.id)
            if run.trial_round is None and run.status == RunStatus.SUCCEEDED
        ]
        stored = evaluations.test_scores(session, [run.id for run in done])
        outcomes = [
            RunOutcome(run.id, run.arm, run.seed, RunStatus.SUCCEEDED, scores=test.scores, items_hash=test.items_hash)
            for run in done
            if (test := stored.get((run.id, "adapted")))
        ]
        arms = study.spec.arms
        by_arm = {arm.title: [outcome for outcome in outcomes if outcome.arm == arm.title] for arm in arms}
        found = matrices(by_arm, common_items(outcomes))
        lora = {arm.title for arm in arms if arm.method.kind == "lora"}
        enough = [title for title, scores in found.items() if min(scores.shape) > 1 and _varies(scores)]
        if enough:
            arm = max(enough, key=lambda title: (title in lora, len(found[title])))
            yield ScoreSource(study, arm, len(found[arm]), found[arm])


def _varies(scores: NDArray[np.float64]) -> bool:
    return float(np.mean(np.ptp(scores, axis=0) > 0)) >= LEAST_VARIATION


@lru_cache(8)
def _drawn(scores: bytes, seeds: int, seed: int) -> tuple[NullStudies, ...]:
    matrix = np.frombuffer(scores, dtype=np.float64).reshape(seeds, -1)
    return tuple(null_studies.null_studies(matrix, size, seed) for size in null_studies.sizes(matrix.shape[1]))

"""The pooled results of a class: each learner's seed is one seed of one study, and the interval narrows with each.

Looking after every seed and stopping when the result pleases would raise the error rate, so the number of seeds is
fixed before the first one. The first that many complete seeds, by the time at which they were complete, give the
verdict. Intervals before that are shown without one, and later seeds do not change it. A seed counts once every
arm has a result; one that failed or was withdrawn is counted beside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.domain.comparison.model import POINT, RunOutcome
from app.domain.comparison.statistics.intervals import CONFIDENCE, Difference
from app.domain.comparison.statistics.proportions import UnpairedDifference
from app.domain.comparison.statistics.score_matrices import common_clusters, common_items, matrices
from app.domain.comparison.statistics.verdict import judge
from app.domain.runs.status import RunStatus
from app.domain.studies.spec import StudySpec

LEAST_SEEDS, MOST_SEEDS = 2, 100


@dataclass(frozen=True)
class PooledStep:
    """The intervals with so many complete seeds: by arm, each minus the reference."""

    seeds: int
    differences: Mapping[str, Difference | UnpairedDifference]


def complete_seeds(spec: StudySpec, outcomes: Sequence[RunOutcome]) -> list[int]:
    """Seeds with a result of every arm on the same test items, in the order in which they were complete."""
    items = common_items(outcomes)
    titles = {arm.title for arm in spec.arms}
    done: dict[int, list[RunOutcome]] = {}
    for run in outcomes:
        if run.status is RunStatus.SUCCEEDED and run.scores is not None and run.items_hash == items:
            done.setdefault(run.seed, []).append(run)
    ended = {
        seed: max(run.finished_at or datetime.min.replace(tzinfo=UTC) for run in runs)
        for seed, runs in done.items()
        if {run.arm for run in runs} >= titles
    }
    return sorted(ended, key=lambda seed: (ended[seed], seed))


def steps(
    spec: StudySpec, outcomes: Sequence[RunOutcome], seeds: Sequence[int], confidence: float = CONFIDENCE
) -> list[PooledStep]:
    """The intervals with the first two of the complete `seeds`, the first three, and so on, as the verdict has them.
    `confidence` is that of all arms together."""
    place = {seed: at for at, seed in enumerate(seeds)}
    ordered = sorted((run for run in outcomes if run.seed in place), key=lambda run: place[run.seed])
    by_arm = {arm.title: [run for run in ordered if run.arm == arm.title] for arm in spec.arms}
    scores = matrices(by_arm, common_items(ordered))
    if spec.reference_arm not in scores:
        return []
    found = []
    for number in range(LEAST_SEEDS, len(seeds) + 1):
        verdicts = judge(
            {title: rows[:number] for title, rows in scores.items()},
            spec.reference_arm,
            spec.margin_points * POINT,
            spec.alternative,
            confidence=confidence,
            clusters=common_clusters(ordered, common_items(ordered)),
        )
        differences = {title: verdict.difference for title, verdict in verdicts.items() if verdict.difference}
        found.append(PooledStep(number, differences))
    return found

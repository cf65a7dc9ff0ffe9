"""The plan of a study: its runs, what it can detect, and how long it would train, before it starts.

Parameters are computed; the detectable difference and the times are estimates.
"""

from collections.abc import Callable, Mapping
from functools import partial
from math import ceil

from pydantic import BaseModel, ConfigDict, Field, computed_field

from app.domain.comparison.model import POINT
from app.domain.comparison.statistics.intervals import CONFIDENCE
from app.domain.data.dataset import DatasetFacts
from app.domain.methods import Family
from app.domain.resources.calibration import EstimateBand
from app.domain.studies.power import (
    ClusterSizes,
    MetricPrior,
    detectable_difference,
    enough_items,
    power_of_equal_arms,
)
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.tuning import RandomTuning, TpeTuning, runs_worth

MAX_SEEDS_SUGGESTED = 20
TARGET_POWER = 0.8
MARGINS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0)
"""Default margins in points: round numbers, since a margin is a statement about use."""


class ArmPlan(BaseModel):
    """What an arm would take."""

    model_config = ConfigDict(frozen=True)

    title: str
    family: Family
    trainable: int | None
    total: int | None
    train_seconds: float | None
    """Seconds of one run; None where neither an estimate nor a similar run shows it."""
    device: str
    """Device of the similar runs, or the worker of the estimate."""
    estimate: EstimateBand | None = None
    """Band of the train time; None where it is from similar runs."""


class Power(BaseModel):
    """What a study can detect, and what would let it decide at the margin."""

    model_config = ConfigDict(frozen=True)

    seeds: int
    items: int
    clusters: int | None
    """Groups that the items form, by equal inputs or the dataset's groups; None where each is its own."""
    margin: float
    """A fraction, as is the difference."""
    detectable_difference: float
    """At about 50 % power: what the test set and the seeds can show."""
    if_equal: float
    """Probability of `enough` (of `within` where equivalence is tested) for an arm that truly does not differ from the
    reference."""
    prior: MetricPrior
    """What that rests on."""
    enough_seeds: int | None
    """Fewest seeds that could detect a difference as small as the margin; None where the present ones can, or none up
    to 20."""
    enough_items: int | None
    """About how many test items could, with `items_seeds` seeds; None where the present ones can, or no million."""
    items_seeds: int
    """The present seeds, or the fewest that these items need."""

    @property
    def wider_margin(self) -> float:
        """The smallest margin, in points, that it could decide on: up to the next tenth."""
        return ceil(round(self.detectable_difference / POINT * 10, 6)) / 10


class StudyPlan(BaseModel):
    """What a study would take, and what it can show."""

    model_config = ConfigDict(frozen=True)

    spec: StudySpec = Field(exclude=True)
    arms: tuple[ArmPlan, ...]
    power: Power
    reference_seconds: float = 0.0
    """Seconds of DPO's reference, which a worker computes once; 0 for other losses, and while no time is estimated."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def runs(self) -> int:
        """Runs that count: arms × seeds."""
        return len(self.arms) * self.power.seeds

    @computed_field  # type: ignore[prop-decorator]
    @property
    def trials(self) -> int | None:
        """Runs that search hyperparameters, of all arms; None where the budget is not a number of trials."""
        owed = [self.spec.trials_owed(arm) for arm in self.spec.arms]
        return None if None in owed else sum(trials or 0 for trials in owed)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def can_decide(self) -> bool:
        """It has two arms and two seeds, and can detect a difference as small as the margin."""
        return len(self.arms) > 1 and self.power.seeds > 1 and not self.underpowered

    @property
    def underpowered(self) -> bool:
        """It would probably end undecided."""
        return self.power.seeds > 1 and len(self.arms) > 1 and self.power.detectable_difference > self.power.margin

    @computed_field  # type: ignore[prop-decorator]
    @property
    def train_seconds(self) -> float | None:
        """Seconds of all training, with trials and DPO's reference, one run after the other; None where it is not known
        for each arm."""
        runs, trials = self._seconds(self.power.seeds), self.trial_seconds
        return runs + trials + self.reference_seconds if runs is not None and trials is not None else None

    @property
    def trial_seconds(self) -> float | None:
        """Seconds of the trials; None where the budget is in tokens."""
        tuning = self.spec.tuning
        if isinstance(tuning, RandomTuning | TpeTuning) and tuning.unit == "seconds":
            return len(self.arms) * tuning.budget
        worth = {arm.title: runs_worth(tuning, self.spec.space(arm)) for arm in self.spec.arms}
        times = [(worth[arm.title], arm.train_seconds) for arm in self.arms]
        known = [runs * seconds for runs, seconds in times if runs is not None and seconds is not None]
        return sum(known) if len(known) == len(self.arms) and self._seconds(1) is not None else None

    @property
    def more_seconds(self) -> float | None:
        """What the seeds would add that let it decide."""
        return self._seconds(self.power.enough_seeds - self.power.seeds) if self.power.enough_seeds else None

    @property
    def devices(self) -> frozenset[str]:
        """Where the times are from, or for."""
        return frozenset(arm.device for arm in self.arms if arm.device)

    @property
    def estimated(self) -> bool:
        """The times are estimates with a band, not those of similar runs."""
        return any(arm.estimate for arm in self.arms)

    @property
    def assumed(self) -> bool:
        """The worker has no past run: its rate is an assumed share of its measured throughput."""
        return any(arm.estimate and not arm.estimate.runs for arm in self.arms)

    def with_times(self, worker: str, estimates: Mapping[str, EstimateBand], reference: float = 0.0) -> "StudyPlan":
        """With a worker's estimated train times, by arm, instead of those of similar runs, and seconds of DPO's
        reference."""
        if not estimates:
            return self
        arms = tuple(arm.model_copy(update=_time_of(estimates.get(arm.title), worker)) for arm in self.arms)
        return self.model_copy(update={"arms": arms, "reference_seconds": reference})

    def of_last_arm(self) -> "StudyPlan":
        """As if the last arm were all of it."""
        spec = self.spec.model_copy(update={"arms": self.spec.arms[-1:], "reference": ""})
        return self.model_copy(update={"spec": spec, "arms": self.arms[-1:]})

    def _seconds(self, seeds: float) -> float | None:
        times = [arm.train_seconds for arm in self.arms if arm.train_seconds is not None]
        return seeds * sum(times) if len(times) == len(self.arms) and len(self.devices) == 1 else None


def _time_of(estimate: EstimateBand | None, worker: str) -> dict[str, object]:
    if estimate is None:
        return {"train_seconds": None, "device": ""}
    return {"train_seconds": estimate.value, "device": worker, "estimate": estimate}


def cluster_sizes(facts: DatasetFacts) -> ClusterSizes:
    """Sizes of the clusters of a dataset's test items; each item is its own where that is not known."""
    return ClusterSizes(facts.test_cluster_size or 1.0, facts.test_copies or 1.0)


def power_of(spec: StudySpec, facts: DatasetFacts, prior: MetricPrior, confidence: float) -> Power:
    """The power analysis of a study on a dataset."""
    seeds, items, margin = len(spec.seeds), facts.test_items, spec.margin_points * POINT
    clusters = cluster_sizes(facts)

    def detectable(seeds: int, items: int = items) -> float:
        return detectable_difference(
            items,
            seeds,
            prior.score,
            graded=prior.graded,
            disagreement=prior.disagreement,
            comparisons=len(spec.arms) - 1,
            confidence=confidence,
            clusters=clusters,
        )

    smallest = detectable(seeds)
    enough_seeds, more_items, items_seeds = None, None, 0
    if seeds == 1 or smallest > margin:
        more_seeds = range(max(2, seeds + 1), MAX_SEEDS_SUGGESTED + 1)
        enough_seeds = next((count for count in more_seeds if detectable(count) <= margin), None)
        more_items, items_seeds = _items(items, max(2, seeds), lambda seeds, items: detectable(seeds, items) <= margin)
    return Power(
        seeds=seeds,
        items=items,
        clusters=facts.test_clusters if clusters.group > 1 else None,
        margin=margin,
        detectable_difference=smallest,
        if_equal=_if_equal(spec, facts, prior, margin, confidence),
        prior=prior,
        enough_seeds=enough_seeds,
        enough_items=more_items,
        items_seeds=items_seeds,
    )


def _items(items: int, seeds: int, decides: Callable[[int, int], bool]) -> tuple[int | None, int]:
    """The fewest items that decide with as few seeds as possible, and how many these are; None and 0 if none do."""
    for count in range(seeds, MAX_SEEDS_SUGGESTED + 1):
        if enough := enough_items(items, partial(decides, count)):
            return enough, count
    return None, 0


def default_margin(spec: StudySpec, facts: DatasetFacts, prior: MetricPrior) -> float:
    """The smallest of MARGINS, in points, at which a planned study has a power of TARGET_POWER for arms that truly do
    not differ; the largest, where none is wide enough."""
    at = (points for points in MARGINS if _if_equal(spec, facts, prior, points * POINT, CONFIDENCE) >= TARGET_POWER)
    return next(at, MARGINS[-1])


def _if_equal(spec: StudySpec, facts: DatasetFacts, prior: MetricPrior, margin: float, confidence: float) -> float:
    return power_of_equal_arms(
        facts.test_items,
        len(spec.seeds),
        prior.score,
        margin,
        spec.alternative,
        graded=prior.graded,
        disagreement=prior.disagreement,
        comparisons=len(spec.arms) - 1,
        confidence=confidence,
        clusters=cluster_sizes(facts),
    )

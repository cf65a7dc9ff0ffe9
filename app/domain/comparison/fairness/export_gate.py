"""The shipping gate: whether an export scores as the run did, on the same test items.

    D = export − run        the mean difference over the N items, with its paired interval (`intervals.difference`)

    pass        the whole interval lies above −margin: what it loses, if anything, is too little to matter
    fail        the whole interval lies below −margin, or the files do not hold what the run trained
    undecided   the rest: more test items would decide

Run and export are one model, so its seed is not drawn again and the interval covers the items only. An export that
scores better passes. The weights of a merged export are checked besides (`WeightCheck`): a missing matrix can leave
every score as it was.
"""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import CONFIDENCE, Difference, Scores, difference
from app.domain.tasks import MetricName


class GateOutcome(StrEnum):
    PASS = "pass"  # noqa: S105 no password
    FAIL = "fail"
    UNDECIDED = "undecided"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class WeightCheck(_Value):
    """The tensors of a merged export, each compared with W + ΔW of the run, computed in float64."""

    tensors: int
    wrong: list[str]
    """Those that are missing, or lie further from W + ΔW than rounding once explains; the first of them."""
    wrong_count: int = 0
    """Number of all of them; 0 in results that were stored without it."""
    largest_error: float
    """In units of half an ulp of the export's dtype, or of what a quantized type may leave; 1 is rounding alone."""
    unseen: int = 0
    """Tensors in which rounding leaves so little of ΔW that their numbers cannot show whether it is in the export."""

    @property
    def differing(self) -> int:
        return max(self.wrong_count, len(self.wrong))


class TextDifference(_Value):
    """Where the generated text of an item first differs."""

    item: str
    token: int
    """Position in the text, from 0."""
    run: str
    """The run's token; empty where its text has ended."""
    export: str


class ExportScores(_Value):
    """What loading an export from its files and scoring it gave."""

    loaded_with: str
    """`transformers 5.24.0`."""
    metric: MetricName
    items_hash: str
    scores: list[float]
    """[N], in the order of the test split."""
    same: int | None
    """Items with the same prediction as the run's; None where the run has none."""
    first_difference: TextDifference | None = None
    """The earliest difference in generated text, over all items."""
    weights: WeightCheck | None = None
    """Only a merged export has it."""
    seconds: float
    """For loading and scoring."""
    versions: dict[str, str] = Field(default_factory=dict)
    """With which it was written and scored: python, torch, transformers, peft, vezna; empty in results that were stored
    without them."""
    code: str = ""
    """SHA-256 of Vezna's source files, as `Environment.code`."""


class ExportGate(_Value):
    outcome: GateOutcome
    loaded_with: str
    metric: MetricName
    items: int
    margin: float
    """In the metric's unit: 0.02 is 2 points."""
    confidence: float
    score: float
    run_score: float
    delta: float
    low: float
    """Lower end of the interval of `delta`, within −1 and 1."""
    high: float
    same: int | None
    first_difference: TextDifference | None
    weights: WeightCheck | None
    seconds: float
    versions: dict[str, str] = Field(default_factory=dict)
    """With which it was written and scored; empty as `code` in results that were stored without them."""
    code: str = ""
    """SHA-256 of Vezna's source files, as `Environment.code`."""


def gate(run: Sequence[float], export: ExportScores, margin: float, clusters: Clusters | None = None) -> ExportGate:
    """The result, from [N] scores each. ValueError if they are not of as many items."""
    ours, theirs = _matrix(export.scores), _matrix(run)
    interval = difference(ours, theirs, CONFIDENCE, clusters)
    broken = export.weights is not None and export.weights.differing > 0
    return ExportGate(
        outcome=GateOutcome.FAIL if broken else outcome(interval, margin),
        loaded_with=export.loaded_with,
        metric=export.metric,
        items=interval.items,
        margin=margin,
        confidence=interval.confidence,
        score=float(np.mean(ours)),
        run_score=float(np.mean(theirs)),
        delta=interval.delta,
        low=interval.low,
        high=interval.high,
        same=export.same,
        first_difference=export.first_difference,
        weights=export.weights,
        seconds=export.seconds,
        versions=export.versions,
        code=export.code,
    )


def outcome(interval: Difference, margin: float) -> GateOutcome:
    low, high = interval.limits
    if low >= -margin:
        return GateOutcome.PASS
    return GateOutcome.FAIL if high < -margin else GateOutcome.UNDECIDED


def _matrix(scores: Sequence[float]) -> Scores:
    """[1, N], rounded to float32, as the store keeps a run's scores: equal predictions then differ by exactly 0."""
    return np.asarray(scores, dtype="<f4").astype(np.float64)[None, :]

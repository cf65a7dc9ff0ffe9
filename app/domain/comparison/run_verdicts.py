"""The verdicts on arms of any runs: by their items where all have the same, else by their shares, else none."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.fairness.confounders import ConfounderKind
from app.domain.comparison.grouping import ComparedRun, metric_stated, same_splits, scored_runs
from app.domain.comparison.statistics.proportions import newcombe
from app.domain.comparison.statistics.verdict import ArmVerdict, Basis, Reason, VerdictKind, judge, verdict_of_shares
from app.domain.studies.alternative import Alternative


def run_verdicts(
    groups: Mapping[str, tuple[ComparedRun, ...]],
    reference: str,
    margin: float,
    alternative: Alternative,
    confidence: float,
) -> dict[str, ArmVerdict]:
    """The verdict on each arm but the reference. Runs on the same items have the same clusters. Holm's order counts all
    that are judged, whatever their basis."""
    base = scored_runs(groups[reference])
    others = {title: scored_runs(group) for title, group in groups.items() if title != reference}
    bases = {title: _basis(runs, base) for title, runs in others.items()}
    by_item = {title: score_matrix(runs) for title, runs in others.items() if bases[title] is Basis.ITEMS}
    by_share = [title for title in others if bases[title] is Basis.SHARES]
    verdicts = {}
    if by_item:
        scores = by_item | {reference: score_matrix(base)}
        verdicts = judge(
            scores,
            reference,
            margin,
            alternative,
            further=len(by_share),
            confidence=confidence,
            clusters=base[0].clusters,
        )
    each = 1 - (1 - confidence) / max(len(by_item) + len(by_share), 1)
    for title, runs in others.items():
        basis = bases[title]
        if basis is Basis.SHARES:
            items = runs[0].items or 1
            shares = newcombe(mean_score(runs), items, mean_score(base), items, each, seeds=(len(runs), len(base)))
            verdicts[title] = verdict_of_shares(shares, margin, alternative)
        elif isinstance(basis, ConfounderKind):
            verdicts[title] = ArmVerdict(VerdictKind.NONE, Reason.INCOMPARABLE, confounder=basis)
        elif basis is None:
            verdicts[title] = ArmVerdict(VerdictKind.NONE, Reason.NO_RESULT if base else Reason.NO_REFERENCE_RESULT)
    return verdicts


def _basis(runs: Sequence[ComparedRun], base: Sequence[ComparedRun]) -> Basis | ConfounderKind | None:
    """What two arms can be compared by, or what rules that out; None where one has no score yet."""
    if not runs or not base:
        return None
    both = [*runs, *base]
    if len({run.metric for run in both}) > 1:
        return ConfounderKind.METRIC
    if len({run.conditions["metric_version"] for run in both if "metric_version" in run.conditions}) > 1:
        return ConfounderKind.METRIC_VERSION
    if any(run.reported for run in both):
        if not metric_stated(both):
            return ConfounderKind.METRIC_UNPROVEN
        if not same_splits(both):
            return ConfounderKind.SPLITS
    if len({run.items_hash for run in both}) == 1 and all(run.items_hash and run.scores is not None for run in both):
        several = min(len(run.scores) for run in both if run.scores is not None) > 1
        return Basis.ITEMS if several else ConfounderKind.NO_ITEMS
    if len({(run.test_set, run.items) for run in both}) == 1 and all(run.test_set and run.items for run in both):
        return Basis.SHARES
    return ConfounderKind.TEST_ITEMS if all(run.items_key for run in both) else ConfounderKind.NO_ITEMS


def score_matrix(runs: Sequence[ComparedRun]) -> NDArray[np.float64]:
    """Per-item scores, [S, N]."""
    return np.stack([run.scores for run in runs if run.scores is not None])


def mean_score(runs: Sequence[ComparedRun]) -> float:
    return float(np.mean([run.score for run in runs if run.score is not None]))

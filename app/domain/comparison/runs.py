"""The comparison of any runs: of one study or of several, trained here or imported.

Pure: runs in, comparison out. Runs that differ by their seed alone are one arm, and then the statistics of `verdict.py`
apply as they do in a study. What a study fixes beforehand is looked for here
(`app.domain.comparison.fairness.confounders`): between different test items there is no verdict; across devices there
is no winner in memory or time.

Imported results mostly lack per-item scores. Where the test set is the same by name and number of items, their
difference gets an interval that treats the items as independent (`app.domain.comparison.statistics.proportions`): it is
wide, it covers the items only, and so its verdict is a hint at best.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.costs.costs import ArmCosts
from app.domain.comparison.fairness.conditions import StatedCondition, stated_conditions
from app.domain.comparison.fairness.confounders import (
    MEMORY,
    TIME,
    Confounder,
    ConfounderKind,
    find_confounders,
    measured_alike,
)
from app.domain.comparison.grouping import (
    ComparedRun,
    arm_titles,
    group_by_seed,
    metric_stated,
    same_splits,
    scored_runs,
)
from app.domain.comparison.model import POINT, ArmResult, Comparison, marker_fills, overlaps
from app.domain.comparison.statistics.intervals import CONFIDENCE, SCORES, Difference, ScoreInterval, score_interval
from app.domain.comparison.statistics.proportions import newcombe, wilson
from app.domain.comparison.statistics.score_matrices import common_clusters
from app.domain.comparison.statistics.verdict import (
    ArmVerdict,
    Basis,
    McNemar,
    Reason,
    VerdictKind,
    judge,
    verdict_of_shares,
)
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


@dataclass(frozen=True, kw_only=True)
class RunArm(ArmResult):
    """Runs that differ by their seed alone."""

    runs: tuple[ComparedRun, ...]

    @property
    def first(self) -> ComparedRun:
        """What all its runs share is read off the first."""
        return self.runs[0]

    @property
    def searched(self) -> bool:
        """A search chose the configuration of a run of it."""
        return any(run.searched for run in self.runs)

    @property
    def imported(self) -> bool:
        """It was not trained here."""
        return bool(self.first.collection)

    @property
    def reported(self) -> bool:
        """Scripts reported its runs, which are trained elsewhere."""
        return self.first.reported

    @property
    def scored(self) -> tuple[ComparedRun, ...]:
        return scored_runs(self.runs)


@dataclass(frozen=True, kw_only=True)
class RunComparison(Comparison[RunArm]):
    mcnemar: McNemar | None

    @property
    def clusters(self) -> int | None:
        """That the test items form which are the same in the arms that are judged by them; None where each is its own,
        or none are the same."""
        by_item = (arm.difference for arm in self.others if arm.verdict and arm.verdict.basis is Basis.ITEMS)
        return next((d.clusters for d in by_item if isinstance(d, Difference)), None)

    @property
    def settings(self) -> dict[str, tuple[str, ...]]:
        """Every setting by name, with its value for each arm; empty where an arm lacks it."""
        names = dict.fromkeys(name for arm in self.arms for name in arm.first.settings)
        return {name: tuple(arm.first.settings.get(name, "") for arm in self.arms) for name in names}

    @property
    def differing_settings(self) -> dict[str, tuple[str, ...]]:
        """The settings that are not the same for all."""
        return {name: values for name, values in self.settings.items() if len(set(values)) > 1}

    @property
    def conditions(self) -> tuple[StatedCondition, ...]:
        """What is equal over all arms with a score, what differs, and what is unknown."""
        return stated_conditions({arm.title: [run.conditions for run in arm.scored] for arm in self.arms if arm.scored})

    def not_tested(self) -> "RunComparison":
        """The same differences without verdicts."""
        arms = [replace(arm, verdict=arm.verdict.not_tested) if arm.verdict else arm for arm in self.arms]
        return replace(self, arms=tuple(arms))


def compare_runs(
    runs: Sequence[ComparedRun],
    *,
    reference: int | None = None,
    margin_points: float = 1.0,
    alternative: Alternative = Alternative.NON_INFERIORITY,
    predeclared: AbstractSet[int] | None = None,
    seeds: AbstractSet[int] = frozenset(),
    labels: Sequence[str] = (),
    confidence: float = CONFIDENCE,
) -> RunComparison:
    """Compare any runs.

    `reference` is a run of the reference arm; without one it is the first full fine-tuning that has a score, else the
    first arm that has one. `predeclared` are the runs of the arm that a study named as its reference before any of them
    began: choosing another is a confounder; None where no study named one. `seeds` are those that a study of scripts'
    runs declared, and `labels` those of its arms. `confidence` is that of all verdicts
    together. ValueError for no runs, a run that occurs twice, or a reference that is not among them.
    """
    if not runs:
        raise ValueError("there are no runs to compare")
    if len({run.run_id for run in runs}) < len(runs):
        raise ValueError("a run occurs twice")
    shared = {items: common_clusters(runs, items) for items in {run.items_hash for run in runs}}
    runs = [replace(run, clusters=shared[run.items_hash]) for run in runs]
    groups = group_by_seed(runs)
    titles = arm_titles(groups)
    chosen = _reference(groups, reference)
    margin = margin_points * POINT
    verdicts = run_verdicts(dict(zip(titles, groups, strict=True)), titles[chosen], margin, alternative, confidence)
    arms = tuple(
        RunArm(
            title=title,
            family=group[0].family,
            hollow=hollow,
            is_reference=place == chosen,
            runs=group,
            score=_score(group),
            verdict=verdicts.get(title),
            costs=ArmCosts.of_any([run.costs for run in group]),
        )
        for place, (group, title, hollow) in enumerate(
            zip(groups, titles, marker_fills(group[0].family for group in groups), strict=True)
        )
    )
    scored = scored_runs(runs)
    confounders = _confounders(arms, predeclared if len(arms) > 1 else None, seeds, labels)
    conditions = [run.conditions for run in scored]
    overlapped = any(confounder.kind is ConfounderKind.OVERLAP for confounder in confounders)
    return RunComparison(
        arms=arms,
        metric=groups[chosen][0].metric,
        margin=margin,
        alternative=alternative,
        confidence=confidence,
        confounders=confounders,
        memory_comparable=measured_alike(conditions, MEMORY),
        times_comparable=measured_alike(conditions, TIME) and not overlapped,
        scores_comparable=len({run.items_key for run in scored}) <= 1 and all(run.items_key for run in scored),
        mcnemar=_mcnemar(arms),
    )


def _reference(groups: Sequence[tuple[ComparedRun, ...]], run_id: int | None) -> int:
    if run_id is not None:
        for place, group in enumerate(groups):
            if any(run.run_id == run_id for run in group):
                return place
        raise ValueError(f"the reference, run {run_id}, is not among the runs")
    scored = [place for place, group in enumerate(groups) if scored_runs(group)]
    full = [place for place in scored if groups[place][0].method == "full"]
    return (full or scored or [0])[0]


def _score(group: Sequence[ComparedRun]) -> ScoreInterval | None:
    """An arm's mean. With per-item scores its interval covers items and seeds, else the items alone."""
    runs = scored_runs(group)
    if not runs:
        return None
    if all(run.scores is not None for run in runs) and len({run.items_hash for run in runs}) == 1:
        return score_interval(score_matrix(runs), clusters=runs[0].clusters)
    mean, items = mean_score(runs), {run.items for run in runs}
    n = items.pop() if len(items) == 1 else None
    interval = wilson(mean, n) if n else ScoreInterval(mean, *SCORES, seeds=1, items=None, usable=False)
    return replace(interval, seeds=len(runs))


def _confounders(
    arms: Sequence[RunArm], predeclared: AbstractSet[int] | None, seeds: AbstractSet[int], labels: Sequence[str]
) -> tuple[Confounder, ...]:
    scored = [arm for arm in arms if arm.scored]
    unstated = _unproven(scored, metric_stated)
    opened = {run.arm for arm in arms for run in arm.runs}
    keys = {run.items_key for arm in scored for run in arm.scored if run.items_key}
    facts: dict[ConfounderKind, Sequence[str]] = {
        ConfounderKind.TEST_ITEMS: [arm.title for arm in scored] if len(keys) > 1 else [],
        ConfounderKind.NO_ITEMS: [arm.title for arm in scored if not all(run.items_key for run in arm.scored)],
        **overlaps({arm.title: arm.scored for arm in scored}),
        ConfounderKind.SPLITS: [arm.title for arm in _unproven(scored, same_splits)],
        ConfounderKind.METRIC_UNPROVEN: [arm.title for arm in unstated if not metric_stated(arm.scored)],
        ConfounderKind.IMPORTED: [arm.title for arm in arms if arm.imported and not arm.reported],
        ConfounderKind.ELSEWHERE: [arm.title for arm in arms if arm.reported],
        ConfounderKind.MIXED_SETTINGS: [
            arm.title for arm in scored if arm.reported and len({_settings(run) for run in arm.scored}) > 1
        ],
        ConfounderKind.MISSING_SEEDS: [
            *(arm.title for arm in arms if seeds - {run.seed for run in arm.scored}),
            *(label for label in labels if label not in opened),
        ],
        ConfounderKind.NO_NEWS: [arm.title for arm in arms if any(run.quiet for run in arm.runs)],
        ConfounderKind.TRIED_AGAIN: [arm.title for arm in arms if any(run.tries > 1 for run in arm.runs)],
        ConfounderKind.REFERENCE: [
            arm.title
            for arm in arms
            if arm.is_reference and predeclared is not None and predeclared.isdisjoint(run.run_id for run in arm.runs)
        ],
        ConfounderKind.UNTUNED: [arm.title for arm in scored if not (arm.first.tuned or arm.reported)],
        ConfounderKind.ONE_SEED: [arm.title for arm in scored if len(arm.scored) == 1],
    }
    return find_confounders({arm.title: [run.conditions for run in arm.scored] for arm in scored}, facts)


def _unproven(arms: Sequence[RunArm], proof: Callable[[Iterable[ComparedRun]], bool]) -> list[RunArm]:
    """The arms that are compared without a proof: each with the reference, where scripts reported one of the two."""
    base = next((arm for arm in arms if arm.is_reference), None)
    without = [
        arm
        for arm in arms
        if base is not None
        and arm is not base
        and (arm.reported or base.reported)
        and not proof([*arm.scored, *base.scored])
    ]
    return [arm for arm in arms if arm in without or (arm is base and without)]


def _settings(run: ComparedRun) -> frozenset[tuple[str, str]]:
    return frozenset(setting for setting in run.settings.items() if not setting[0].endswith("seed"))


def _mcnemar(arms: Sequence[RunArm]) -> McNemar | None:
    """McNemar's test of two single runs whose items are right or wrong."""
    if len(arms) != 2 or any(len(arm.runs) != 1 for arm in arms):
        return None
    [arm], [base] = ([arm for arm in arms if arm.is_reference is which] for which in (False, True))
    scores, other = arm.first.scores, base.first.scores
    if arm.verdict is None or arm.verdict.basis is not Basis.ITEMS or scores is None or other is None:
        return None
    if not set(np.unique(np.concatenate([scores, other]))) <= {0.0, 1.0}:
        return None
    return McNemar.of(scores == 1, other == 1, arm.first.clusters)

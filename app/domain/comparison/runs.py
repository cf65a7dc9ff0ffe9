"""Any runs held against each other, of one study or of many, of here or of elsewhere.

Pure: runs in, comparison out. Runs that differ by their seed alone are one arm, and then the statistics of `verdict.py`
apply as they do in a study. What a study would have held equal was not promised here: it is looked for
(`app.domain.comparison.confounders`), and what it takes away is taken away. Between different test items there is no
verdict; across devices there is no winner in memory or time.

Results from elsewhere mostly lack scores of single items. Where the test set is the same by name and number, their
difference gets an interval that takes the items as independent (`app.domain.comparison.proportions`): it is wide, it
covers the items only, and so its word is a hint at best, never better or worse.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.candidates import Candidate, grouped, titles
from app.domain.comparison.confounders import Obstacle, Term, What, obstacles
from app.domain.comparison.costs import Spread
from app.domain.comparison.intervals import CONFIDENCE
from app.domain.comparison.proportions import UnpairedDifference, newcombe, wilson
from app.domain.comparison.study import POINT
from app.domain.comparison.verdict import Difference, Needs, VerdictKind, judge, mcnemar, score_interval, word
from app.domain.methods import Family

COSTS = ("peak_bytes", "train_seconds", "trainable_parameters", "file_bytes")
"""What an arm costs, by name; bytes and seconds."""
SAME_MEMORY: tuple[Term, ...] = ("device", "precision", "memory measure")
SAME_TIME: tuple[Term, ...] = ("device", "precision")
"""What must be one and known, so that memory and times are held against each other."""


@dataclass(frozen=True)
class Own:
    """An arm's mean score with its interval."""

    mean: float
    low: float | None
    high: float | None
    """None where nothing is known of its items."""


@dataclass(frozen=True)
class Against:
    """An arm against the reference."""

    kind: VerdictKind
    basis: Literal["items", "shares", "none"]
    """Item by item; from two shares of as many items, taken as independent; or not at all."""
    difference: Difference | UnpairedDifference | None
    why: What | None
    """For `none`: what keeps it from being judged; None where one of them has no score yet."""
    hint: VerdictKind | None = None
    needs: Needs | None = None


@dataclass(frozen=True)
class ComparedArm:
    """Runs that differ by their seed alone."""

    title: str
    runs: tuple[Candidate, ...]
    hollow: int
    """0 for a family's first arm, 1 for its second, 2 and more for others: how its marker is filled."""
    is_reference: bool
    score: Own | None
    costs: Mapping[str, Spread]
    against: Against | None
    """None for the reference itself, and for what is compared with nothing."""

    @property
    def first(self) -> Candidate:
        """What is the same of all its runs is read off the first."""
        return self.runs[0]

    @property
    def family(self) -> Family:
        """Of its method."""
        return self.first.family

    @property
    def imported(self) -> bool:
        """It was measured elsewhere."""
        return self.first.imported

    @property
    def scored(self) -> tuple[Candidate, ...]:
        """Runs with a score."""
        return tuple(run for run in self.runs if run.score is not None)

    @property
    def seeds(self) -> int:
        """How many seeds have a score."""
        return len(self.scored)


@dataclass(frozen=True)
class McNemar:
    """Two single runs on the same items that are right or wrong."""

    only_first: int
    """Items that only the arm gets right."""
    only_reference: int
    p_value: float


@dataclass(frozen=True)
class Compared:
    """Any runs, weighed."""

    arms: tuple[ComparedArm, ...]
    margin: float
    """A fraction."""
    confidence: float
    """Of all verdicts together."""
    obstacles: tuple[Obstacle, ...]
    """What makes them incomparable, the gravest first."""
    scores_comparable: bool
    """All scores are of the same items by the same metric."""
    memory_comparable: bool
    times_comparable: bool
    mcnemar: McNemar | None

    @property
    def reference(self) -> ComparedArm:
        """The arm that the others are held against."""
        return next(arm for arm in self.arms if arm.is_reference)

    @property
    def metric(self) -> str:
        """Of the reference."""
        return self.reference.first.metric

    @property
    def runs(self) -> tuple[Candidate, ...]:
        """Every run of every arm."""
        return tuple(run for arm in self.arms for run in arm.runs)

    @property
    def settings(self) -> dict[str, tuple[str, ...]]:
        """Every setting by name, with its value for each arm; empty where an arm has it not."""
        names = dict.fromkeys(name for arm in self.arms for name in arm.first.settings)
        return {name: tuple(arm.first.settings.get(name, "") for arm in self.arms) for name in names}

    def differing(self) -> dict[str, tuple[str, ...]]:
        """The settings that are not the same for all."""
        return {name: values for name, values in self.settings.items() if len(set(values)) > 1}


def weigh(
    candidates: Sequence[Candidate],
    *,
    reference: int | None = None,
    margin_points: float = 1.0,
    named: Collection[int] | None = None,
    confidence: float = CONFIDENCE,
) -> Compared:
    """Hold runs against each other. `reference` is a run of the arm that the others are held against; without one it is
    the first full fine-tuning that has a score, else the first arm that has one. `named` are the runs of the arm that
    was named as the reference before any of them began: if another is taken, that is an obstacle. None where nobody
    named one. `confidence` is that of all verdicts together. ValueError for no runs, a run that is there twice, or a
    reference that is not among them."""
    if not candidates:
        raise ValueError("there are no runs to compare")
    if len({run.run_id for run in candidates}) < len(candidates):
        raise ValueError("a run is there twice")
    groups = grouped(candidates)
    names = titles(groups)
    chosen = _reference(groups, reference)
    margin = margin_points * POINT
    judged = _judged(groups, names, chosen, margin, confidence)
    seen: Counter[Family] = Counter()
    arms = []
    for place, (group, name) in enumerate(zip(groups, names, strict=True)):
        family = group[0].family
        arms.append(
            ComparedArm(
                title=name,
                runs=group,
                hollow=seen[family],
                is_reference=place == chosen,
                score=_own(group),
                costs=_costs(group),
                against=judged.get(name),
            )
        )
        seen[family] += 1
    done = [run for run in candidates if run.score is not None]
    terms = {arm.title: [run.terms for run in arm.scored] for arm in arms if arm.scored}
    found = obstacles(terms, _facts(arms, named if len(arms) > 1 else None))
    return Compared(
        arms=tuple(arms),
        margin=margin,
        confidence=confidence,
        obstacles=found,
        scores_comparable=len({_items_key(run) for run in done}) <= 1 and all(map(_items_key, done)),
        memory_comparable=_one(done, SAME_MEMORY),
        times_comparable=_one(done, SAME_TIME) and not any(o.what is What.OVERLAP for o in found),
        mcnemar=_mcnemar(arms),
    )


def _reference(groups: Sequence[tuple[Candidate, ...]], wanted: int | None) -> int:
    if wanted is not None:
        for place, group in enumerate(groups):
            if any(run.run_id == wanted for run in group):
                return place
        raise ValueError(f"the reference, run {wanted}, is not among the runs")
    scored = [place for place, group in enumerate(groups) if any(run.score is not None for run in group)]
    full = [place for place in scored if groups[place][0].method == "full"]
    return (full or scored or [0])[0]


def _judged(
    groups: Sequence[tuple[Candidate, ...]], names: Sequence[str], reference: int, margin: float, confidence: float
) -> dict[str, Against]:
    """Each arm but the reference. Holm's order is over all that are judged, however they are."""
    base = [run for run in groups[reference] if run.score is not None]
    others = {
        name: [run for run in group if run.score is not None]
        for place, (name, group) in enumerate(zip(names, groups, strict=True))
        if place != reference
    }
    bases = {name: _basis(runs, base) for name, runs in others.items()}
    by_item = {name: matrix(runs) for name, runs in others.items() if bases[name] == "items"}
    by_share = [name for name in others if bases[name] == "shares"]
    title = names[reference]
    scores, further = by_item | {title: matrix(base)} if by_item else {}, len(by_share)
    verdicts = judge(scores, title, margin, further=further, confidence=confidence) if by_item else {}
    each = 1 - (1 - confidence) / max(len(by_item) + further, 1)
    found = {}
    for name, runs in others.items():
        basis = bases[name]
        if basis == "items":
            verdict = verdicts[name]
            found[name] = Against(verdict.kind, "items", verdict.difference, None, verdict.hint, verdict.needs)
        elif basis == "shares":
            found[name] = _by_share(runs, base, margin, each)
        else:
            found[name] = Against(VerdictKind.NONE, "none", None, basis)
    return found


def _basis(runs: Sequence[Candidate], base: Sequence[Candidate]) -> Literal["items", "shares"] | What | None:
    """How two arms can be held against each other, or what is in the way; None where one has no score yet."""
    if not runs or not base:
        return None
    both = [*runs, *base]
    if len({run.metric for run in both}) > 1:
        return What.METRIC
    if len({run.terms["metric version"] for run in both if "metric version" in run.terms}) > 1:
        return What.METRIC_VERSION
    hashes = {run.items_hash for run in both}
    if len(hashes) == 1 and "" not in hashes and all(run.scores is not None for run in both):
        return "items" if min(len(run.scores) for run in both if run.scores is not None) > 1 else What.NO_ITEMS
    sets = {(run.test_set, run.items) for run in both}
    known = all(run.test_set and run.items for run in both)
    if len(sets) == 1 and known:
        return "shares"
    return What.TEST_ITEMS if all(map(_items_key, both)) else What.NO_ITEMS


def _by_share(runs: Sequence[Candidate], base: Sequence[Candidate], margin: float, confidence: float) -> Against:
    """From what is known of shares: at best a hint, since nothing is known of seeds nor of single items."""
    items = runs[0].items or 1
    seen = newcombe(_mean(runs), items, _mean(base), items, confidence)
    kind = word(seen.low, seen.high, margin)
    if kind is VerdictKind.UNDECIDED:
        return Against(kind, "shares", seen, None)
    return Against(VerdictKind.HINT, "shares", seen, None, hint=kind)


def matrix(runs: Sequence[Candidate]) -> NDArray[np.float64]:
    """Scores, [S, N]."""
    return np.stack([run.scores for run in runs if run.scores is not None])


def _mean(runs: Sequence[Candidate]) -> float:
    return float(np.mean([run.score for run in runs if run.score is not None]))


def _own(group: Sequence[Candidate]) -> Own | None:
    """An arm's own mean. With scores of items its interval covers items and seeds, else the items alone."""
    runs = [run for run in group if run.score is not None]
    if not runs:
        return None
    if all(run.scores is not None for run in runs) and len({run.items_hash for run in runs}) == 1:
        found = score_interval(matrix(runs))
        return Own(found.mean, found.low, found.high) if found.items > 1 else Own(found.mean, None, None)
    mean, items = _mean(runs), {run.items for run in runs}
    if len(items) == 1 and (n := items.pop()):
        share = wilson(mean, n)
        return Own(mean, share.low, share.high)
    return Own(mean, None, None)


def _costs(group: Sequence[Candidate]) -> dict[str, Spread]:
    seen = {name: [run.costs[name] for run in group if name in run.costs] for name in COSTS}
    return {name: Spread.of(values) for name, values in seen.items() if values}


def _items_key(run: Candidate) -> str:
    """Which items by which metric; empty where nobody knows."""
    which = run.items_hash or (f"{run.test_set}, {run.items}" if run.test_set and run.items else "")
    return f"{run.metric}: {which}" if which else ""


def _one(runs: Sequence[Candidate], terms: Sequence[Term]) -> bool:
    """All have the same value of each, and it is known."""
    return all(len({run.terms.get(term, "") for run in runs}) == 1 and runs[0].terms.get(term) for term in terms)


def _facts(arms: Sequence[ComparedArm], named: Collection[int] | None) -> dict[What, list[str]]:
    """What is so of some arms, beside what they were made under."""
    scored = [arm for arm in arms if arm.scored]
    keys = {_items_key(run) for arm in scored for run in arm.scored}
    facts: dict[What, list[str]] = {
        What.TEST_ITEMS: [arm.title for arm in scored] if len({key for key in keys if key}) > 1 else [],
        What.NO_ITEMS: [arm.title for arm in scored if not all(map(_items_key, arm.scored))],
        What.IMPORTED: [arm.title for arm in arms if arm.imported],
        What.REFERENCE: [arm.title for arm in arms if named is not None and _chosen_later(arm, named)],
        What.UNTUNED: [arm.title for arm in scored if not arm.first.tuned],
        What.ONE_SEED: [arm.title for arm in scored if arm.seeds == 1],
    }
    return facts


def _chosen_later(arm: ComparedArm, named: Collection[int]) -> bool:
    """It is the reference, and another was named before the runs began."""
    return arm.is_reference and not any(run.run_id in named for run in arm.runs)


def _mcnemar(arms: Sequence[ComparedArm]) -> McNemar | None:
    """Of two single runs whose items are right or wrong."""
    if len(arms) != 2 or any(len(arm.runs) != 1 or arm.first.scores is None for arm in arms):
        return None
    [arm] = [arm for arm in arms if not arm.is_reference]
    [base] = [arm for arm in arms if arm.is_reference]
    if arm.against is None or arm.against.basis != "items":
        return None
    right, other = arm.first.scores, base.first.scores
    assert right is not None and other is not None  # noqa: S101  (looked at above)
    if not set(np.unique(np.concatenate([right, other]))) <= {0.0, 1.0}:
        return None
    first, second = right == 1, other == 1
    return McNemar(int((first & ~second).sum()), int((second & ~first).sum()), mcnemar(first, second))

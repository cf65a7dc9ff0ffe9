"""Runs as a comparison of any runs sees them: which of them are one arm, and what each arm is called."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.confounders import Term
from app.domain.failures import Failure
from app.domain.methods import Family
from app.domain.runs.status import RunStatus


@dataclass(frozen=True)
class Candidate:
    """A run as a comparison of any runs sees it."""

    run_id: int
    label: str
    method: str
    family: Family
    seed: int
    status: RunStatus
    identity: str
    """What it is but for its seed: runs that share it are one arm."""
    settings: Mapping[str, str]
    """How it was made, by name; without its seed."""
    terms: Mapping[Term, str] = field(default_factory=dict)
    """What it was made and measured under; what is not known is not there."""
    metric: str = "accuracy"
    score: float | None = None
    items: int | None = None
    items_hash: str = ""
    """Which test items, in which order; empty where single items have no scores."""
    test_set: str = ""
    """The name of the test set, where that is all that is known of it."""
    scores: NDArray[np.float64] | None = None
    """Of each test item, [N]."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """By the names of COSTS."""
    study_id: int | None = None
    collection: str = ""
    """Of an imported run."""
    tuned: bool = False
    """Its learning rate was looked for."""
    failure: Failure | None = None

    @property
    def imported(self) -> bool:
        """It was measured elsewhere."""
        return bool(self.collection)


def grouped(candidates: Iterable[Candidate]) -> list[tuple[Candidate, ...]]:
    """Arms, in the order in which their first runs come. A run that repeats a seed of its arm is no further seed: it
    would count the same chance twice, so it begins an arm of its own."""
    groups: dict[tuple[str, int], list[Candidate]] = {}
    times: Counter[tuple[str, int]] = Counter()
    for run in candidates:
        turn = times[run.identity, run.seed]
        times[run.identity, run.seed] += 1
        groups.setdefault((run.identity, turn), []).append(run)
    return [tuple(sorted(group, key=lambda run: run.seed)) for group in groups.values()]


def titles(groups: Sequence[tuple[Candidate, ...]]) -> list[str]:
    """A name for each arm. Arms that share their label have beside it what tells them apart: one setting where one is
    enough, else the number of their first run."""
    labels = [group[0].label for group in groups]
    named = list(labels)
    for label, times in Counter(labels).items():
        if times > 1:
            places = [place for place, other in enumerate(labels) if other == label]
            for place, more in zip(places, _told_apart([groups[place] for place in places]), strict=True):
                named[place] = f"{label}, {more}"
    doubled = {name for name, times in Counter(named).items() if times > 1}
    return [
        f"{name}, run {group[0].run_id}" if name in doubled else name for name, group in zip(named, groups, strict=True)
    ]


def _told_apart(groups: Sequence[tuple[Candidate, ...]]) -> list[str]:
    settings = [group[0].settings for group in groups]
    names = dict.fromkeys(name for those in settings for name in those)
    for name in sorted(names, key=lambda name: (not name.endswith("learning_rate"), len(name))):
        values = [those.get(name, "–") for those in settings]
        if len(set(values)) == len(values) and all(len(value) <= 24 for value in values):
            short = "lr" if name.endswith("learning_rate") else name.rpartition(".")[2]
            return [f"{short} {value}" for value in values]
    return [f"run {group[0].run_id}" for group in groups]

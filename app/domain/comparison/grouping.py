"""Runs of any study, or imported ones: which of them are one arm, and what each arm is called."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from app.domain.comparison.fairness.confounders import RunConditions
from app.domain.comparison.model import RunOutcome
from app.domain.methods import Family

SHORT = 24
"""Characters of a setting that may stand in the title of an arm."""


@dataclass(frozen=True, kw_only=True)
class ComparedRun(RunOutcome):
    """A run of any study, or an imported one."""

    method: str
    family: Family
    identity: str
    """Its specification without the seed: runs that share it are one arm."""
    settings: Mapping[str, str]
    """How it was made, by name; without its seed."""
    conditions: RunConditions = field(default_factory=dict)
    metric: str = "accuracy"
    score: float | None = None
    items: int | None = None
    test_set: str = ""
    """The name of the test set, where that is all that is known of it."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """By the names of `app.domain.comparison.costs.costs.COSTS`."""
    study_id: int | None = None
    collection: str = ""
    """Collection of an imported run."""
    reported: bool = False
    """A script reported it to a declared study: test items, splits and metric have to be proven."""
    quiet: bool = False
    """It goes on, and its script has not reported for a while."""
    tries: int = 1
    """Runs that scripts opened of its arm and seed: those before it failed or were cancelled."""
    splits: str = ""
    """Hashes of its splits; empty where they are unknown."""
    tuned: bool = False
    """Its learning rate was searched for."""
    searched: bool = False
    """A search of its study chose its configuration; False for a trial, and where that is unknown."""

    @property
    def items_key(self) -> str:
        """Which items by which metric; empty where that is unknown."""
        items = self.items_hash or (f"{self.test_set}, {self.items}" if self.test_set and self.items else "")
        return f"{self.metric}: {items}" if items else ""


def metric_stated(runs: Iterable[ComparedRun]) -> bool:
    return all("metric_version" in run.conditions for run in runs)


def same_splits(runs: Iterable[ComparedRun]) -> bool:
    """Provably: all are known, and equal."""
    splits = {run.splits for run in runs}
    return len(splits) == 1 and "" not in splits


def scored_runs(runs: Iterable[ComparedRun]) -> tuple[ComparedRun, ...]:
    return tuple(run for run in runs if run.score is not None)


def group_by_seed(runs: Iterable[ComparedRun]) -> list[tuple[ComparedRun, ...]]:
    """The runs of each arm, in the order in which their first runs come. A run that repeats a seed of its arm is no
    further seed, since it would count the same draw twice: it begins an arm of its own."""
    groups: dict[tuple[str, int], list[ComparedRun]] = {}
    repeats: Counter[tuple[str, int]] = Counter()
    for run in runs:
        repeat = repeats[run.identity, run.seed]
        repeats[run.identity, run.seed] += 1
        groups.setdefault((run.identity, repeat), []).append(run)
    return [tuple(sorted(group, key=lambda run: run.seed)) for group in groups.values()]


def arm_titles(groups: Sequence[tuple[ComparedRun, ...]]) -> list[str]:
    """A name for each arm. Arms that share their name have a setting that differs beside it where one is enough, else
    the number of their first run."""
    names = [group[0].arm for group in groups]
    titles = list(names)
    for name, times in Counter(names).items():
        if times > 1:
            places = [place for place, other in enumerate(names) if other == name]
            for place, suffix in zip(places, _suffixes([groups[place] for place in places]), strict=True):
                titles[place] = f"{name}, {suffix}"
    repeated = {title for title, times in Counter(titles).items() if times > 1}
    return [
        f"{title}, run {group[0].run_id}" if title in repeated else title
        for title, group in zip(titles, groups, strict=True)
    ]


def _suffixes(groups: Sequence[tuple[ComparedRun, ...]]) -> list[str]:
    settings = [group[0].settings for group in groups]
    names = dict.fromkeys(name for arm_settings in settings for name in arm_settings)
    for name in sorted(names, key=lambda name: (not name.endswith("learning_rate"), len(name))):
        values = [arm_settings.get(name, "–") for arm_settings in settings]
        if len(set(values)) == len(values) and all(len(value) <= SHORT for value in values):
            short = "lr" if name.endswith("learning_rate") else name.rpartition(".")[2]
            return [f"{short} {value}" for value in values]
    return [f"run {group[0].run_id}" for group in groups]

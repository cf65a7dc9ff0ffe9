"""Published results of the same configurations at several commits: what changed in common, and what is left.

With one seed per result, neither part is seed noise: the common drift comes with newer libraries, and the rest mixes
the libraries' effect on single configurations with chance.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from math import sqrt
from statistics import fmean, stdev

from pydantic import BaseModel, ConfigDict, Field

from app.domain.comparison.model import POINT
from app.domain.comparison.statistics.distributions import normal_quantile


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PublishedResult(_Value):
    """One configuration at one commit."""

    label: str
    right: int = Field(ge=0)
    """Test items that it answered correctly."""
    trained: date
    versions: dict[str, str]
    """Versions of transformers, torch and peft."""


class PublishedSnapshot(_Value):
    """The results as they stood at a commit."""

    commit: str
    committed: date
    results: list[PublishedResult]


class PublishedHistory(_Value):
    """Results at several commits, the oldest first."""

    title: str
    url: str
    license: str
    setting: str
    items: int = Field(gt=0)
    """Items of the test set."""
    seed: int
    snapshots: list[PublishedSnapshot]


class Drift(_Value):
    """How results changed between two dates, over the configurations that were trained again."""

    before: dict[str, str]
    """Versions of libraries."""
    after: dict[str, str]
    changes: dict[str, float]
    """By configuration, in points."""

    @property
    def mean(self) -> float:
        """The common drift, in points."""
        return fmean(self.changes.values())

    @property
    def spread(self) -> float:
        """What remains after it is removed: standard deviation of the changes, in points."""
        return stdev(self.changes.values())

    @property
    def fell(self) -> int:
        """Configurations with a lower score."""
        return sum(change < 0 for change in self.changes.values())


def drifts(history: PublishedHistory) -> list[Drift]:
    """Between consecutive trainings of each configuration, by the versions of libraries before and after; those of at
    least two configurations."""
    last: dict[str, PublishedResult] = {}
    groups: dict[tuple[str, str], list[tuple[PublishedResult, PublishedResult]]] = {}
    for snapshot in history.snapshots:
        for result in snapshot.results:
            earlier = last.get(result.label)
            if earlier is not None and earlier.trained != result.trained:
                groups.setdefault((_key(earlier.versions), _key(result.versions)), []).append((earlier, result))
            last[result.label] = result
    return [
        Drift(
            before=pairs[0][0].versions,
            after=pairs[0][1].versions,
            changes={new.label: (new.right - old.right) / history.items / POINT for old, new in pairs},
        )
        for pairs in groups.values()
        if len(pairs) > 1
    ]


def _key(versions: Mapping[str, str]) -> str:
    return " ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def score_half_width(right: int, items: int) -> float:
    """Half of the 95 % interval of one score by its items alone (normal), in points."""
    share = right / items
    return normal_quantile(0.975) * sqrt(share * (1 - share) / items) / POINT


def difference_half_width(first: int, second: int, items: int) -> float:
    """The same of a difference of two scores as if their items were independent: without scores by item, how far they
    agree on the same items is unknown."""
    return sqrt(score_half_width(first, items) ** 2 + score_half_width(second, items) ** 2)


def newest(history: PublishedHistory, labels: Sequence[str]) -> list[PublishedResult]:
    found = {result.label: result for snapshot in history.snapshots for result in snapshot.results}
    return [found[label] for label in labels]

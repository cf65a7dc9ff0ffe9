"""Clusters: test items that are not independent of each other, because they have the same input or the same group.

Copies of an item carry no new evidence, and neither do ten messages of one user as much as those of ten users. The
sums over clusters are independent where single items are not, so variances are estimated from them (Cameron & Miller
2015, "A practitioner's guide to cluster-robust inference"; Miller 2024, "Adding error bars to evals"). With the share
w_g of all N items that cluster g has, and its sum u_g of deviations from the mean:

    variance of the mean = Σ_g u_g² / (1 − 2 w_g + Σ_h w_h²) / N²

The divisor makes it unbiased where the items of a cluster are alike, whatever the sizes of the clusters. With clusters
of size 1 it is Σ d² / (N (N − 1)), the usual one. Its degrees of freedom are 1/Σ w_g² − 1: the effective number of
clusters (Kish 1965; compare Carter, Schnepel & Steigerwald 2017) but one, which is G − 1 for G of one size. G − 1
claims too often where sizes are very unequal (simulated: docs/verdict.md).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from app.domain.data.item_names import cluster_of

FEW = 30
"""With fewer clusters intervals rest on little, and are wide."""


@dataclass(frozen=True, eq=False)
class Clusters:
    ids: NDArray[np.int64]
    """[N], from 0 to G − 1."""

    @classmethod
    def of(cls, names: Iterable[object]) -> "Clusters | None":
        """From a cluster's name for each item; None if all differ."""
        places: dict[object, int] = {}
        ids = np.array([places.setdefault(name, len(places)) for name in names], dtype=np.int64)
        return cls(ids) if len(places) < len(ids) else None

    @classmethod
    def of_items(cls, items: Iterable[str], groups: Mapping[str, str] | None = None) -> "Clusters | None":
        """From the items' names and the groups of some; what names tell to be one stays one. None if all differ."""
        names, stated = list(items), groups or {}
        joined: dict[object, object] = {}

        def first(key: object) -> object:
            while joined.setdefault(key, key) != key:
                joined[key] = key = joined[joined[key]]
            return key

        for item in names:
            if item in stated:
                joined[first(cluster_of(item))] = first(("group", stated[item]))
        return cls.of(first(cluster_of(item)) for item in names)

    def __len__(self) -> int:
        return len(self.sizes)

    @staticmethod
    def same(one: "Clusters | None", other: "Clusters | None") -> bool:
        """Whether the same items belong together."""
        return np.array_equal(one.ids if one else [], other.ids if other else [])

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Items in each, [G]."""
        return np.bincount(self.ids)

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """w, [G]: each cluster's share of the items."""
        return self.sizes / len(self.ids)

    @cached_property
    def degrees_of_freedom(self) -> float:
        """Degrees of freedom of a variance that is estimated from the clusters; at least 1."""
        return max(self.effective - 1, 1.0)

    @cached_property
    def effective(self) -> float:
        """How many clusters of one size tell as much as these."""
        return 1 / float((self.shares**2).sum())

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[…, N] values summed by cluster, […, G]."""
        rows = values.reshape(-1, values.shape[-1])
        sums: NDArray[np.float64] = np.stack([np.bincount(self.ids, weights=row, minlength=len(self)) for row in rows])
        return np.asarray(sums.reshape(*values.shape[:-1], len(self)), dtype=np.float64)

    def sum_of_squares(self, deviations: NDArray[np.float64]) -> float:
        """Σ_g u_g² / (1 − 2 w_g + Σ w²), over all rows of [R, N] or [N] deviations from their mean."""
        divisors = 1 - 2 * self.shares + float((self.shares**2).sum())
        return float((self.sums(deviations) ** 2 / divisors).sum())

    def chosen(self, items: NDArray[np.bool_]) -> "Clusters | None":
        """The clusters of these items alone, [N]."""
        return Clusters.of(self.ids[items].tolist())

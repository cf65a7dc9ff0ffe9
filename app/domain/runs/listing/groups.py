"""Groups of runs that differ only by their seed, so that differences within a group are chance.

A group's mean has Student's t interval over its seeds; groups are ranked by the lower bound of that interval.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from app.domain.comparison.statistics.distributions import t_quantile as student_quantile
from app.domain.methods import METHODS, Family

DIGITS = 16
"""Of a key in hexadecimal: among 100,000 groups two have the same one with a chance of 3 in 10 billion."""
CONFIDENCE = 0.95
OUTSIDE = (
    "label", "method", "family", "metric", "test_set", "base_model", "dataset", "learning_rate", "settings",
)  # fmt: skip
"""What an imported result says of how it was made; where and with which libraries may differ, as it may of ours."""


@dataclass(frozen=True)
class About:
    """What was asked of a run, as its row holds it: what lists group, filter and colour it by follows from it."""

    method: str
    spec: Mapping[str, Any]
    outside: Mapping[str, Any] | None = None
    """The result of an imported run, in place of a spec."""
    trial_round: int | None = None
    base_model_id: int | None = None
    dataset_id: int | None = None
    """Of the version that it was trained on."""
    collection_id: int | None = None
    """Of an imported run."""

    @property
    def key(self) -> str:
        """What runs of one group, and of one arm of a comparison, share.

        Their spec as JSON without the seed and without empty values, with the ids of the base model and of the version
        of the data. Trials of a round have groups of their own, and so have the imports of a collection. In a study
        that is trained elsewhere they share their declared arm.
        """
        if self.outside is not None and self.outside.get("reported"):
            identity: Mapping[str, Any] = {"arm": self.outside["label"], "declared": self.collection_id}
        elif self.outside is not None:
            identity = {
                "outside": {name: self.outside.get(name) for name in OUTSIDE},
                "collection": self.collection_id,
            }
        else:
            identity = {
                **self.spec,
                "base_model": self.base_model_id,
                "dataset": self.dataset_id,
                "training": _seedless(self.spec.get("training") or {}),
                "trial": self.trial_round,
            }
        text = json.dumps(without_empty(identity), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]

    @property
    def family(self) -> Family:
        """What a colour and a marker stand for."""
        if self.method in METHODS:
            return METHODS[self.method].family
        assert self.outside is not None  # noqa: S101 only an imported run has a method that is none of ours
        return cast(Family, self.outside["family"])

    @property
    def rank(self) -> int | None:
        """Of a low-rank method, or None."""
        method = self.spec.get("method") or {}
        rank = method.get("r", method.get("target_r"))
        return rank if isinstance(rank, int) else None

    @property
    def task(self) -> str:
        """The task, or an empty string if the spec names none."""
        return str(self.spec.get("task") or "")


def _seedless(training: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in training.items() if name != "seed"}


def without_empty(value: Any) -> Any:
    """JSON without fields that are null or an empty text."""
    if isinstance(value, dict):
        return {name: without_empty(v) for name, v in value.items() if v is not None and v != ""}
    return [without_empty(v) for v in value] if isinstance(value, list) else value


def t_quantile(n: int) -> float:
    """The half-width of the interval of a mean of n ≥ 2 values, in standard errors."""
    return student_quantile(n - 1, 0.5 + CONFIDENCE / 2)

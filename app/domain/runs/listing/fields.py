"""The fields of a run that a list may show, sort and filter by: their names, what kind of value each has, its units.

A value is in base units inside (a fraction, bytes, seconds); a filter may write it in others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from app.domain.messages import Message, _
from app.domain.tasks import METRICS

Kind = Literal["fraction", "bytes", "seconds", "count", "number", "text", "time"]


@dataclass(frozen=True)
class Field:
    """A field. `also` are other names that a filter may use."""

    name: str
    kind: Kind
    also: tuple[str, ...] = ()
    rises: bool = False
    """Sorting begins with the smallest value: less memory, less time."""

    @property
    def numeric(self) -> bool:
        """It has an order and a mean."""
        return self.kind not in ("text", "time")


FIELDS: dict[str, Field] = {
    f.name: f
    for f in (
        Field("id", "count", ("run",)),
        Field("study", "count", ("study_id",)),
        Field("study_name", "text"),
        Field("collection", "text"),
        Field("arm", "text"),
        Field("method", "text"),
        Field("model", "text", ("base_model",)),
        Field("data", "text", ("dataset",)),
        Field("task", "text"),
        Field("metric", "text"),
        Field("score", "fraction"),
        *(Field(name, "fraction") for name, facts in METRICS.items() if facts.per_item),
        Field("base_score", "fraction"),
        Field("validation_score", "fraction", ("validation",)),
        Field("loss", "number", ("test_loss",), rises=True),
        Field("train_loss", "number", rises=True),
        Field("peak", "bytes", ("peak_bytes", "memory"), rises=True),
        Field("estimated", "bytes", ("estimated_bytes",), rises=True),
        Field("train", "seconds", ("train_seconds", "train_time"), rises=True),
        Field("wall", "seconds", ("wall_seconds",), rises=True),
        Field("speed", "number", ("tokens_per_second",)),
        Field("trainable", "count", ("trainable_parameters",), rises=True),
        Field("parameters", "count", ("total_parameters",), rises=True),
        Field("size", "bytes", ("artifact_bytes",), rises=True),
        Field("rank", "count", ("r",), rises=True),
        Field("learning_rate", "number", ("lr",), rises=True),
        Field("seed", "count", rises=True),
        Field("steps", "count", ("step",)),
        Field("attempts", "count", ("attempt",), rises=True),
        Field("status", "text", ("state",)),
        Field("failure", "text", ("failure_code",)),
        Field("device", "text", ("device_name",)),
        Field("precision", "text"),
        Field("worker", "text"),
        Field("tag", "text", ("tags",)),
        Field("note", "text", ("notes",)),
        Field("queued_at", "time"),
        Field("started_at", "time"),
        Field("finished_at", "time"),
    )
}
"""By name, in the order of a list."""

NAMES: dict[str, Field] = FIELDS | {other: field for field in FIELDS.values() for other in field.also}
"""By every name."""

UNITS: Mapping[Kind, Mapping[str, float]] = {
    "fraction": {"%": 0.01},
    "bytes": {
        "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
        "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    },
    "seconds": {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400},
    "count": {"k": 10**3, "M": 10**6, "G": 10**9, "B": 10**9},
}  # fmt: skip
"""A unit's size in base units."""
EXAMPLES: Mapping[Kind, Message] = {
    "fraction": _("a number such as 0.9 or 90 %"),
    "bytes": _("a number with its unit, such as 2 GiB"),
    "seconds": _("a number of seconds, or with its unit, such as 5 min"),
    "count": _("a number such as 8 or 1.5 M"),
    "number": _("a number such as 2e-5"),
    "text": _('a string in quotes, such as "lora"'),
    "time": _("a date or a time, such as 2026-11-12 or 2026-11-12T14:00"),
}
"""What a filter may contain as a value."""

"""Device time that runs take: devices, times the time in which an attempt occupies them."""

from enum import StrEnum

from app.domain.messages import Message, _

ASSUMED_SECONDS = 600.0
"""Train time of a run of which nothing is known."""


class Basis(StrEnum):
    """Where a prediction comes from, the best first."""

    ESTIMATE = "estimate"
    SIMILAR_RUNS = "similar_runs"
    ASSUMED = "assumed"

    @property
    def sentence(self) -> Message:
        match self:
            case Basis.ESTIMATE:
                return _("by the resource estimate")
            case Basis.SIMILAR_RUNS:
                return _("by similar runs")
            case _:
                return _(
                    "assumed, since there is no estimate yet: %(minutes)s min a run",
                    minutes=round(ASSUMED_SECONDS / 60),
                )


def reserved(predicted: float, charged: float, attempt: float) -> float:
    """Device-seconds that a live run still reserves: `predicted` in all, of which its earlier attempts were `charged`
    for a part, and its present one has used `attempt` so far."""
    return max(predicted - charged, attempt, 0.0)

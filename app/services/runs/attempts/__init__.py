"""Attempts: executions of a run by a worker, from its claim to its end.

Every change of state is one compare-and-set UPDATE, and every write is fenced by the attempt's epoch. A call for an
attempt that is no longer the run's raises `Fenced`: its caller has nothing more to write. Lost workers: `sweep.py`.
"""

from app.services.runs.attempts.claiming import Attempt, Claim, claim
from app.services.runs.attempts.companions import claim_companions, pass_on
from app.services.runs.attempts.reporting import (
    Fenced,
    back_to_queue,
    checkpoint_prefix,
    checkpointed,
    end,
    fail,
    finish,
    hand_back,
    report,
    retry,
    stop,
)

__all__ = [
    "Attempt",
    "Claim",
    "Fenced",
    "back_to_queue",
    "checkpoint_prefix",
    "checkpointed",
    "claim",
    "claim_companions",
    "end",
    "fail",
    "finish",
    "hand_back",
    "pass_on",
    "report",
    "retry",
    "stop",
]

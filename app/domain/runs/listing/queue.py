"""The order of the queue: priorities, and what a user may change about waiting runs.

    priority    compared before all else: a high one starts before any other run, a low one once no other waits
    share       among users: the user with the least device time of the last days is next (`services.scheduling`)
    place       among the runs of a user

A paused run keeps its place and is not started. A running one that is paused stops at a checkpoint and resumes there.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.domain.accounts.ownership import Viewer
from app.domain.errors import Forbidden
from app.domain.messages import _
from app.domain.validation import invalid_field


class Priority(StrEnum):
    """What starts before what, of all owners; the first starts first."""

    HIGH = "high"
    """Of admins alone."""
    NORMAL = "normal"
    LOW = "low"

    @property
    def precedence(self) -> int:
        """How it is stored: the less, the earlier."""
        return list(Priority).index(self)

    @classmethod
    def of(cls, precedence: int) -> "Priority":
        return list(cls)[precedence]


NORMAL = Priority.NORMAL.precedence


class QueueChange(BaseModel):
    """What is to change about waiting runs; what is not given stays."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"example": {"move": "first"}})

    paused: bool | None = None
    """True: not to be started, and stopped at a checkpoint if it runs. False: to be started when it is its turn."""
    priority: Priority | None = None
    """`high` needs an admin."""
    move: Literal["first", "last"] | None = None
    """Among the waiting runs of the same owner and priority."""
    before: Annotated[int, Field(gt=0)] | None = None
    """The id of a waiting run of the same owner and priority that is to come after."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if not self.model_fields_set or all(value is None for value in self.model_dump().values()):
            raise invalid_field("", _("Nothing is to change"), _("Give one or more of: paused, priority, move, before"))
        if self.move is not None and self.before is not None:
            raise invalid_field("before", _("Two places are given"), _("Give move or before, not both"))
        return self

    @property
    def moves(self) -> bool:
        """Whether the order of the owner's runs changes."""
        return self.move is not None or self.before is not None


def first_precedence(viewer: Viewer | None) -> int:
    """The earliest precedence that a viewer may give."""
    return Priority.HIGH.precedence if viewer is None or viewer.sees_all else NORMAL


def require_may_raise(viewer: Viewer | None, priority: Priority | None, now: Iterable[int]) -> None:
    """Raise Forbidden if a viewer may not give this priority to all that have the precedences `now`."""
    wanted = priority.precedence if priority else NORMAL
    if wanted < first_precedence(viewer) and any(precedence != wanted for precedence in now):
        raise Forbidden(
            _("Only an admin may give a high priority, since it starts before the runs of all others. Ask an admin.")
        )

"""Quotas: what a user's runs may use, and what is left of it.

A quota of a user is the user's own limit, else that of the role; without either there is none. Without login there are
no quotas.

    used        device-seconds of attempts that have ended in this calendar month (UTC), as measured
    reserved    of runs that are queued or running, and of runs that accepted studies will queue, as predicted

A run reserves what is predicted for it, less what its earlier attempts have used; while it runs, at least what its
attempt has used so far. Its end replaces the reservation by the measurement.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.accounts.policy import Role

MOST = 2**53
"""The largest limit: JSON numbers are exact up to it."""


class Quota(StrEnum):
    """What is limited."""

    CONCURRENT_RUNS = "concurrent_runs"
    """Runs that workers execute at the same time."""
    DEVICE_SECONDS = "device_seconds"
    """Per calendar month (UTC): the time in which attempts occupy devices, times the number of devices."""
    STORED_BYTES = "stored_bytes"
    """Of uploads, datasets, artifacts and exports in the files store."""


@dataclass(frozen=True)
class Limits:
    """The limits in effect for a user; None: unlimited."""

    concurrent_runs: int | None = None
    device_seconds: int | None = None
    stored_bytes: int | None = None


@dataclass(frozen=True)
class Usage:
    """What a user uses of the quotas."""

    running: int
    """Runs that workers execute."""
    waiting: int
    """Queued runs."""
    used_seconds: float
    """Device-seconds of ended attempts, this month."""
    reserved_seconds: float
    """Device-seconds that are reserved."""
    stored_bytes: int = 0
    expected_bytes: int = 0
    """That runs and exports in progress are predicted to add, where that is known."""

    @property
    def committed_bytes(self) -> int:
        """Stored or expected."""
        return self.stored_bytes + self.expected_bytes

    @property
    def committed_seconds(self) -> float:
        """Used or reserved."""
        return self.used_seconds + self.reserved_seconds


Amount = Annotated[int, Field(ge=0, le=MOST)]
LimitValue = Amount | Literal["unlimited", "default"]
"""`default`: the limit of the role; of a role: none."""


class LimitChange(BaseModel):
    """Limits to set; those that are not given stay."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"example": {"concurrent_runs": 2, "device_seconds": 144000}}
    )

    concurrent_runs: LimitValue | None = None
    device_seconds: LimitValue | None = None
    """Per calendar month (UTC)."""
    stored_bytes: LimitValue | None = None

    @property
    def given(self) -> dict[Quota, LimitValue]:
        """What is to change."""
        values = ((quota, getattr(self, quota.value)) for quota in Quota)
        return {quota: value for quota, value in values if value is not None}


def of_role(role: Role) -> str:
    """How a limit of a role is stored."""
    return f"role {role.value}"


def of_user(user_id: int) -> str:
    """How a limit of a user is stored."""
    return f"user {user_id}"


def month_of(moment: datetime) -> datetime:
    """When the calendar month of a time began, in UTC."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)

"""What a worker's estimation process computes for a feature: requests, which it answers once, and whose answers are
stored as estimates are. The feature's module `computations` has adapters for them (`app.feature`)."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from app.domain.resources.estimate import key_of


class Computation(BaseModel):
    """A request about a base model. Its answer is a pydantic model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    feature: ClassVar[str]
    """Whose it is."""
    version: int = 1
    """Raised when the answer to an unchanged request may differ."""
    location: str
    """Directory or hub id of the base model."""
    revision: str = ""
    fingerprint: str = ""
    """The commit, or the hash of the files, at that location."""
    hub_user: int | None = None
    """The user whose hub token opens the base model; None where it needs none."""

    @property
    def key(self) -> str:
        """SHA-256 over all of it."""
        return key_of(self)

    @property
    def files(self) -> dict[str, str]:
        """What it reads beside the base model: names in the files store, by field."""
        return {}

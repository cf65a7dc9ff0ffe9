"""How a job gets to a trainer that waits: the first line on its standard input."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Handover(BaseModel):
    """Where everything of one attempt is. Paths are absolute: a trainer that waits has no directory of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: Path
    """A JSON file: `app.domain.jobs.TrainJob`."""
    directory: Path
    """An empty directory to work in: a hub id shall never be taken for a directory that happens to lie there."""
    stderr: Path
    """Takes what libraries print, and tracebacks."""
    lease_seconds: float
    """The trainer ends if no `alive` comes for so long."""

"""What passes between the supervisor and its trainer beside the job and the reports (`app.domain.runs.job`).

The line by which a job is handed over, the channel of the reports, and the exit statuses. Imports next to nothing, so
that a trainer can be spoken to as soon as it is started.
"""

import json
import os
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

EXIT_STOPPED = 75
"""Exit status of a trainer that was told to stop and did (EX_TEMPFAIL)."""
EXIT_ABANDONED = 76
"""Exit status of a trainer that ended itself because its supervisor or its lease was gone."""


class Handover(BaseModel):
    """The first line on a trainer's stdin: where everything of its attempt is.

    Paths are absolute: a trainer that waits has no directory of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: Path
    """A JSON file: `app.domain.runs.job.TrainJob`."""
    directory: Path
    """An empty directory to work in: a hub id shall never be taken for a directory that happens to lie there."""
    stderr: Path
    """Takes what libraries print, and tracebacks."""
    lease_seconds: float
    """The trainer ends if no `alive` comes for so long."""


class Channel:
    """The real stdout, kept for reports. File descriptor 1 is pointed at stderr, so a library's print does no harm."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._descriptor = os.dup(1)
        os.dup2(2, 1)

    def send(self, message: BaseModel) -> None:
        """Write one line. Raises `ValueError` rather than write NaN, which is not JSON."""
        line = json.dumps(message.model_dump(mode="json"), allow_nan=False, ensure_ascii=False)
        left = f"{line}\n".encode()
        while left:
            left = left[os.write(self._descriptor, left) :]

"""Progress of an export: of a download its share, of everything else nothing. An export is stopped by ending its
process."""

from collections.abc import Callable, Sequence
from pathlib import Path

from app.domain.models.weight_delta import WeightDeltas
from app.domain.runs.result import Evaluation, StepMetrics
from app.domain.runs.status import Phase


class QuietSink:
    """A `ProgressSink` that passes on the share of a download that is done."""

    def __init__(self, downloaded: Callable[[float], None] = lambda _share: None) -> None:
        self._downloaded = downloaded

    def phase(self, phase: Phase, total_steps: int | None = None) -> None:
        """Nothing."""

    def download(self, done_bytes: int, total_bytes: int) -> None:
        """Its share."""
        self._downloaded(done_bytes / max(total_bytes, 1))

    def steps(self, steps: Sequence[StepMetrics]) -> None:
        """Nothing."""

    def evaluation(self, evaluation: Evaluation, items: Sequence[str] = (), scores: Sequence[float] = ()) -> None:
        """Nothing."""

    def log(self, message: str) -> None:
        """Nothing."""

    def checkpoint(self, step: int, folder: Path) -> None:
        """Nothing."""

    def weight_deltas(self, weight_deltas: WeightDeltas) -> None:
        """Nothing."""

    def raise_if_stopped(self) -> None:
        """Nothing."""

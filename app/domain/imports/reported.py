"""A run that was trained elsewhere and reports to a declared study, as far as its script has stated."""

from pydantic import BaseModel, ConfigDict, Field

from app.domain.imports.facts import Seconds, TrainingFacts
from app.domain.imports.result import OutsideRun
from app.domain.validation import Key, Line

SHA256 = "^[0-9a-f]{64}$"


class SplitHashes(BaseModel):
    """SHA-256 of each split, in hexadecimal. Vezna compares them and computes none: all runs of a study have to make
    them in the same way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: str | None = Field(default=None, pattern=SHA256)
    validation: str | None = Field(default=None, pattern=SHA256)
    test: str | None = Field(default=None, pattern=SHA256)

    @property
    def text(self) -> str:
        """One text for train and test; empty unless both are known, without which nothing is proven."""
        return f"{self.train} {self.test}" if self.train and self.test else ""


class RunFacts(TrainingFacts):
    """What a script states of its run, when it opens it or when it ends it."""

    splits: SplitHashes = SplitHashes()
    base_model_hash: str | None = Field(default=None, pattern=SHA256)
    metric_version: Line = Field(default="", max_length=200)
    """What computes the metric: a name with its version, or a hash of its code. Without it nothing proves that two runs
    were scored in the same way."""
    environment: dict[Key, Line] = Field(default_factory=dict, max_length=100)
    """Facts about the process and its machine: `{"python": "3.12.4", "threads": "8"}`."""
    clocks: dict[Key, Seconds] = Field(default_factory=dict, max_length=40)
    """Seconds by phase."""


class ReportedRun(OutsideRun, RunFacts):
    """What is known of the run: its arm and seed, what its script stated, and once it has ended its score."""

    reported: bool = True
    """It tells these contents from those of an imported file."""

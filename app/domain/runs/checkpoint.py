"""Checkpoints as the store knows them: where the files of a stopped attempt lie, and what they must be."""

from pydantic import BaseModel, ConfigDict

STATE_FILE = "state.json"
"""Names the checkpoint's other files, with their hashes."""
KEPT = 2
"""Checkpoints kept for a run: should the newest one be damaged, there is the one before."""


class StoredCheckpoint(BaseModel):
    """A checkpoint in the files store."""

    model_config = ConfigDict(frozen=True)

    step: int
    """Optimizer steps behind it."""
    prefix: str
    """Its folder in the files store."""
    files: dict[str, str]
    """SHA-256 by name, the state file's too."""
    bytes: int = 0
    """Of its files; 0 where an earlier version stored it."""

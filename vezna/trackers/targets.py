"""Which tracker an address means: `http://host:5000` or `mlflow:http://host:5000`, `tensorboard:DIR`,
`trackio:PROJECT`, `wandb:PROJECT`.

Each tracker is a module with a function `connect`, which imports its package.
"""

from collections.abc import Sequence
from importlib import import_module

from vezna.errors import WrongTracker
from vezna.sending.connection import without_credentials
from vezna.trackers.recorded.reading import RecordedRun
from vezna.trackers.writing import Tracker

KINDS = ("mlflow", "tensorboard", "trackio", "wandb")
READERS = {
    "mlflow": "recorded.mlflow",
    "tensorboard": "tensorboard",
    "trackio": "recorded.trackio",
    "wandb": "recorded.wandb",
}
"""The modules with a function `read`, which imports runs."""


def recorded_at(address: str, names: Sequence[str]) -> list[RecordedRun]:
    """The runs that are recorded there under names that match one of some patterns, or all. Raises
    WrongTracker, TrackerMissing, and NotImported."""
    kind, place = _parts(address)
    recorded: list[RecordedRun] = import_module(f"vezna.trackers.{READERS[kind]}").read(place, names)
    return recorded


def tracker_at(address: str) -> Tracker:
    """Raises WrongTracker, and TrackerMissing without its package."""
    kind, place = _parts(address)
    tracker: Tracker = import_module(f"vezna.trackers.{kind}").connect(place)
    return tracker


def _parts(address: str) -> tuple[str, str]:
    """Kind and place. Raises WrongTracker."""
    kind, colon, place = address.partition(":")
    if kind in ("http", "https"):
        kind, place = "mlflow", address
    if kind not in KINDS or not colon or not place:
        raise WrongTracker(without_credentials(address))
    return kind, place

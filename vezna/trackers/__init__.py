"""Export a study to an experiment tracker; docs/trackers.md describes what is written where.

with Client() as client:
    print(export_study(client, 12, "http://127.0.0.1:5000").url)
    print(export_study(client, 12, "tensorboard:runs").url)
"""

from dataclasses import dataclass

from vezna.client import Client
from vezna.trackers.targets import tracker_at
from vezna.trackers.writing import read_whole, write_study


@dataclass(frozen=True)
class ExportedStudy:
    """Where a study was written."""

    study_id: int
    url: str
    """Of its experiment in the tracker, or the folder."""


def export_study(client: Client, study_id: int, to: str, *, external: bool = False) -> ExportedStudy:
    """Write a study into a tracker, or bring up to date what an earlier export wrote. `to`: the address of an MLflow
    server, `tensorboard:DIR`, `trackio:PROJECT` or `wandb:PROJECT`. `external`: the number is that of a study whose
    runs are trained elsewhere. The study itself is only read. Raises ClientError."""
    tracker, study = tracker_at(to), read_whole(client, study_id, external=external)
    return ExportedStudy(study.id, write_study(client, study, tracker))

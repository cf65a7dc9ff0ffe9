"""Export a study to an experiment tracker, and import runs from one; docs/trackers.md describes both.

with Client() as client:
    print(export_study(client, 12, "http://127.0.0.1:5000").url)
    print(export_study(client, 12, "tensorboard:runs").url)
    import_runs(client, "tensorboard:runs", study=3, arm="LoRA r=8", metric="eval/accuracy", names=["lora-*"])
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vezna.client import Client
from vezna.trackers.recorded.reading import ImportedRun, import_recorded
from vezna.trackers.targets import recorded_at, tracker_at
from vezna.trackers.writing import read_whole, write_study


@dataclass(frozen=True)
class ExportedStudy:
    """Where a study was written."""

    study_id: int
    url: str
    """Address of its experiment in the tracker, or the folder."""


def export_study(
    client: Client, study_id: int, to: str, *, external: bool = False, report: bool = True
) -> ExportedStudy:
    """Write a study into a tracker, or bring up to date what an earlier export wrote. `to`: the address of an MLflow
    server, `tensorboard:DIR`, `trackio:PROJECT` or `wandb:PROJECT`. `external`: the number is that of a study whose
    runs are trained elsewhere. Without `report` the report is left out, which takes seconds. The study itself is only
    read. Raises ClientError."""
    tracker, study = tracker_at(to), read_whole(client, study_id, external=external)
    return ExportedStudy(study.id, write_study(client, study, tracker, report=report))


def import_runs(
    client: Client,
    source: str,
    study: int,
    arm: str,
    *,
    metric: str,
    names: Sequence[str] = (),
    seed: int | None = None,
) -> list[ImportedRun]:
    """Import runs that a tracker recorded into an arm of a declared study. `source`: `tensorboard:DIR`,
    `mlflow:ADDRESS#EXPERIMENT`, `trackio:PROJECT` or `wandb:DIR`. `metric` is the score, `names` patterns of the
    runs' names, `seed` that of a single run that does not state it. Raises NotImported for a run that does not suit,
    before anything is written, and ClientError."""
    recorded = recorded_at(source, names)
    return import_recorded(client, source, recorded, study, arm, metric=metric, seed=seed)

"""Export a study to an experiment tracker; docs/trackers.md describes what is written where.

with Client() as client:
    print(export_study(client, 12, "http://127.0.0.1:5000").url)
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from vezna.client import Client
from vezna.connection import without_credentials
from vezna.errors import WrongTracker
from vezna.exported_study import read_study
from vezna.mlflow_export import MlflowExport


@dataclass(frozen=True)
class ExportedStudy:
    """Where a study was written."""

    study_id: int
    url: str
    """Of its experiment in the tracker."""


def export_study(client: Client, study_id: int, to: str) -> ExportedStudy:
    """Write a study into a tracker, or bring up to date what an earlier export wrote. `to`: the address of an MLflow
    server. The study itself is only read. Raises ClientError."""
    address, study = _http_address(to), read_study(client, study_id)
    return ExportedStudy(study.id, MlflowExport(address).write(client, study))


def _http_address(to: str) -> str:
    try:
        parts = urlsplit(to)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        known = False
    if not known:
        raise WrongTracker(without_credentials(to))
    if parts.username or parts.password:
        raise WrongTracker(without_credentials(to), credentials=True)
    return to

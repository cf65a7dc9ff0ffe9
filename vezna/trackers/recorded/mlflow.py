"""Read runs that MLflow has recorded, on a server or in a folder of its file store.

Of each metric that becomes a curve the whole history is read, of the others the last value. Only runs that have
finished are read: MLflow says so, other than event files.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vezna.errors import NotImported
from vezna.trackers.mlflow import MlflowServer, connect, is_server
from vezna.trackers.recorded.reading import CURVES, RecordedRun, distinct, selected
from vezna.trackers.study import Point

FRAGMENT = "/experiments/"
"""Before the number of an experiment in the address of its page."""


def read(place: str, names: Sequence[str] = ()) -> list[RecordedRun]:
    """The finished runs of an experiment whose names match one of some patterns, or all. `place`: a server's address
    or a folder, with `#` and the name or number of the experiment after it unless it is the only one. Raises
    WrongTracker, TrackerMissing, TrackerUnreachable, TrackerRefused and NotImported."""
    address, _sign, experiment = place.partition("#")
    server = connect(address) if is_server(address) else _folder(address)
    with server.named():
        number = _experiment(server, address, experiment.removeprefix(FRAGMENT).partition("/")[0])
        runs = distinct(address, [(run.info.run_name, run.info.run_id[:8], run) for run in server.runs(number)])
    chosen = selected(address, list(runs), names)
    for name in chosen:
        if (status := runs[name].info.status) != "FINISHED":
            what = "its status is %(status)s"
            raise NotImported(name, what, "Select runs that have finished", status=status)
    with server.named():
        return [_recorded(server, name, runs[name]) for name in chosen]


def _folder(path: str) -> MlflowServer:
    """The file store in a folder. Raises NotImported if it is none."""
    folder = Path(path).resolve()
    if not any(folder.glob("*/meta.yaml")):
        raise NotImported(path, "it is no folder of MLflow's file store", "Name a server, or the folder mlruns")
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3.17 refuses to open one otherwise
    return MlflowServer(folder.as_uri())


def _experiment(server: MlflowServer, address: str, wanted: str) -> str:
    there = {str(one.experiment_id): str(one.name) for one in server.client.search_experiments()}
    # MLflow makes an experiment 0, Default, by itself.
    filled = {number: name for number, name in there.items() if number != "0" or any(server.runs(number))}
    found = [number for number, name in filled.items() if wanted in ("", number, name)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(sorted(filled.values())[:20]) or "none"
    what = "it has no experiment %(name)s" if wanted else "it has several experiments, or none"
    raise NotImported(
        address, what, "Write the name of one after #; there are: %(there)s", name=wanted or "-", there=listed
    )


def _recorded(server: MlflowServer, name: str, run: Any) -> RecordedRun:
    curves, began = {key for keys in CURVES.values() for key in keys}, run.info.start_time
    series: dict[str, list[Point]] = {}
    for key, value in run.data.metrics.items():
        if key not in curves:
            series[key] = [Point(key, float(value))]
            continue
        by_step: dict[int, Point] = {}
        for metric in server.client.get_metric_history(run.info.run_id, key):
            seconds = max(0.0, (metric.timestamp - began) / 1000)
            by_step[metric.step] = Point(key, float(metric.value), metric.step, seconds)
        series[key] = [by_step[step] for step in sorted(by_step)]
    return RecordedRun(f"mlflow {run.info.run_id}", name, dict(run.data.params), series)

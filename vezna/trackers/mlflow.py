"""Write a study into MLflow: an experiment with a run for the study itself, and below it a run for each of its runs.

Exporting again finds them by their tags and updates them. What cannot change in an ended run (steps, results, files)
is written once: its tag `vezna.exported` is set when all of it is there. Of a run that goes on the steps are appended.
The tag `vezna.steps` says which attempt of the run they are of, from the creation of the run on, and the last of them.
MLflow stores the values of a request before its tags, so after an interruption there may be more steps than it says:
what is there already is not written again.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vezna.errors import TrackerMissing, TrackerRefused, TrackerUnreachable, WrongTracker
from vezna.sending.connection import without_credentials
from vezna.trackers.study import Point, TrackedRun, TrackedStudy
from vezna.trackers.validation import validation_points
from vezna.trackers.writing import Outcome

BATCH = 1000
"""Values in a request: the most that MLflow takes."""
LIMITS = {"tag": 5000, "parameter": 6000, "name": 250}
"""Characters that MLflow takes."""
STEP_BATCH = BATCH - 1
"""Steps of a request with a tag, which counts too."""
PARENT = "study"
"""Tag `vezna.run` of the study's own run."""
PROGRESS = "vezna.steps"
"""Tag of a run until all of it is there: its attempt, and the last of its steps that is known to be there."""
SOURCE = {"mlflow.source.name": "vezna", "mlflow.source.type": "JOB"}
STATUSES = {"queued": "SCHEDULED", "running": "RUNNING", "failed": "FAILED", "cancelled": "KILLED"}
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Where the user has not set it: MLflow would send usage data to its makers, wait for minutes, and print each run."""


def is_server(address: str) -> bool:
    """Whether an address begins as that of a server."""
    return address.startswith(("http://", "https://"))


def connect(address: str) -> "MlflowServer":
    """The server at http://host:5000. Raises WrongTracker and TrackerMissing."""
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        known = False
    if not known:
        raise WrongTracker(without_credentials(address))
    if parts.username or parts.password:
        raise WrongTracker(without_credentials(address), credentials=True)
    return MlflowServer(address)


class MlflowServer:
    """An MLflow server, or a folder of its file store by a file: address."""

    def __init__(self, address: str) -> None:
        """MLflow's own variables (MLFLOW_TRACKING_TOKEN, …) say as whom. Raises TrackerMissing."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            mlflow, self.entities = import_module("mlflow"), import_module("mlflow.entities")
            exceptions = import_module("mlflow.exceptions")
        except ImportError as error:
            raise TrackerMissing("mlflow-skinny") from error
        self.address = address.rstrip("/")
        self._failures = (exceptions.MlflowException, ImportError, OSError)
        with self.named():
            self.client = mlflow.MlflowClient(tracking_uri=self.address)

    def open(self, study: TrackedStudy) -> "MlflowExperiment":
        """The experiment of a study; a new one if there is none."""
        with self.named():
            return MlflowExperiment(self, self._experiment(study), study)

    def runs(self, experiment: str) -> Iterator[Any]:
        """The runs of an experiment, the oldest last."""
        token = None
        while True:
            page = self.client.search_runs([experiment], max_results=1000, page_token=token)
            yield from page
            if not (token := page.token):
                return

    def _experiment(self, study: TrackedStudy) -> str:
        for experiment in self.client.search_experiments(filter_string=f"tags.`vezna.study` = '{study.key}'"):
            return str(experiment.experiment_id)
        name = study.title
        if other := self.client.get_experiment_by_name(name):
            if other.tags.get("vezna.study") == study.key:
                raise TrackerRefused(
                    self.address, f"its experiment {name} was deleted; restore it with: mlflow experiments restore"
                )
            name = f"{name} {study.created_at}"
        return str(self.client.create_experiment(name, tags={"vezna.study": study.key, "vezna.url": study.url}))

    @contextmanager
    def named(self) -> Iterator[None]:
        """Turn what MLflow's client raises into errors of `vezna.errors`."""
        try:
            yield
        except self._failures as error:
            why = " ".join(str(error).split())[:300]
            if _connection_failed(error):
                raise TrackerUnreachable(self.address, why) from error
            raise TrackerRefused(self.address, why) from error


class MlflowExperiment:
    """A study there."""

    def __init__(self, server: MlflowServer, experiment: str, study: TrackedStudy) -> None:
        self._server, self._mlflow, self._entities = server, server.client, server.entities
        self._id = experiment
        # The oldest come last, so that they count if there are two of the same tag.
        self._there = {run.data.tags.get("vezna.run"): run for run in server.runs(experiment)}
        begun = datetime.fromisoformat(study.created_at)
        self._parent = self._there.get(PARENT) or self._run(study.name, begun, {"vezna.run": PARENT})

    @property
    def url(self) -> str:
        """Address of the list of its runs: the page of an experiment shows traces of agents first since MLflow 3."""
        return f"{self._server.address}/#/experiments/{self._id}/runs"

    def has_outcome(self, run: TrackedRun) -> bool:
        """The tag that an export sets last."""
        there = self._there.get(str(run.id))
        return there is not None and there.data.tags.get("vezna.exported") == "true"

    def write_run(self, run: TrackedRun, outcome: Outcome | None) -> None:
        """A run below that of the study."""
        with self._server.named():
            there = self._of(run)
            tags = dict(run.tags) | {"vezna.worker": run.worker, "mlflow.note.content": run.note}
        if outcome is not None:
            self._write_outcome(run, outcome, there)
            tags["vezna.exported"] = "true"
        with self._server.named():
            self._parameters(there, run.parameters)
            self._status(there, run.status, run.finished_at)
            self._tags(there, tags)

    def write_steps(self, run: TrackedRun, outcome: Outcome) -> None:
        """Append steps, in requests of whole steps, and evaluations."""
        with self._server.named():
            there = self._of(run)
        points = _later(there, outcome.steps(after=_progress(there)[1]))
        with self._server.named():
            self._values(there, _later(there, validation_points(run)), run.started_at)
        while points:
            end = min(STEP_BATCH, len(points))
            while end < len(points) and points[end].step == points[end - 1].step:
                end -= 1
            batch, points = points[:end], points[end:]
            progress = self._entities.RunTag(PROGRESS, f"{run.attempt} {batch[-1].step}")
            with self._server.named():
                self._mlflow.log_batch(there.info.run_id, self._metrics(batch, run.started_at), tags=[progress])

    def _of(self, run: TrackedRun) -> Any:
        """The run there; a new one if there is none, or one with steps of an earlier attempt, which MLflow keeps."""
        there = self._there.get(str(run.id))
        if there is not None and _progress(there)[0] not in (None, run.attempt):
            self._mlflow.delete_run(there.info.run_id)
            there = None
        if there is None:
            identity = {"vezna.run": str(run.id), "mlflow.parentRunId": self._parent.info.run_id}
            identity[PROGRESS] = f"{run.attempt} 0"
            there = self._there[str(run.id)] = self._run(run.name, run.started_at, identity)
        return there

    def _write_outcome(self, run: TrackedRun, outcome: Outcome, there: Any) -> None:
        steps = _later(there, outcome.steps(after=_progress(there)[1]))
        with self._server.named():
            self._values(there, [*steps, *self._missing(there, run.points)], run.started_at)
        links = outcome.links()
        with self._server.named():
            self._mlflow.log_dict(there.info.run_id, links, "files.json")
        for place, file in outcome.files():
            with self._server.named():
                self._mlflow.log_artifact(there.info.run_id, str(file), str(place.parent).removeprefix("."))

    def _missing(self, there: Any, points: Iterable[Point]) -> list[Point]:
        """Those of some points that are not there: an earlier export may have written any of them."""
        histories: dict[str, set[int]] = {}
        for name in {_name(point.name) for point in points} & there.data.metrics.keys():
            histories[name] = {one.step for one in self._mlflow.get_metric_history(there.info.run_id, name)}
        return [point for point in points if point.step not in histories.get(_name(point.name), ())]

    def write_verdict(self, study: TrackedStudy, report: Path | None) -> None:
        """Tags and metrics of the study's own run."""
        parent = self._parent
        with self._server.named():
            if report is not None:
                self._mlflow.log_artifact(parent.info.run_id, str(report))
            self._mlflow.log_dict(parent.info.run_id, dict(study.comparison), "comparison.json")
            latest = parent.data.metrics
            changed = [point for point in study.points if latest.get(_name(point.name)) != point.value]
            self._values(parent, changed, datetime.now(UTC))
            self._tags(parent, dict(study.tags) | {"mlflow.note.content": study.note or study.summary})
            self._status(parent, study.status, None)

    def _run(self, name: str, begun: datetime, tags: Mapping[str, str]) -> Any:
        return self._mlflow.create_run(self._id, _milliseconds(begun), dict(tags) | SOURCE, name)

    def _values(self, run: Any, points: Iterable[Point], begun: datetime) -> None:
        for batch in _batches(self._metrics(points, begun), BATCH):
            self._mlflow.log_batch(run.info.run_id, metrics=batch)

    def _metrics(self, points: Iterable[Point], begun: datetime) -> list[Any]:
        start = _milliseconds(begun)
        return [
            self._entities.Metric(_name(point.name), point.value, start + round(1000 * point.seconds), point.step)
            for point in points
        ]

    def _parameters(self, run: Any, parameters: Mapping[str, str]) -> None:
        """Log what MLflow does not have: there a parameter never changes, nor does a run's spec."""
        new = {_name(name): value[: LIMITS["parameter"]] for name, value in parameters.items()}
        entities = [self._entities.Param(name, value) for name, value in new.items() if name not in run.data.params]
        for batch in _batches(entities, 100):
            self._mlflow.log_batch(run.info.run_id, params=batch)

    def _tags(self, run: Any, tags: dict[str, str]) -> None:
        """Set tags that differ; remove those of Vezna that no longer apply, as the verdict on an arm that has none."""
        wanted = {_name(name): value[: LIMITS["tag"]] for name, value in tags.items() if value}
        known = run.data.tags
        keep = {"vezna.run", "vezna.exported"}
        if "vezna.exported" not in wanted.keys() | known.keys():
            keep.add(PROGRESS)
        for name in known:
            if name.startswith("vezna.") and name not in wanted and name not in keep:
                self._mlflow.delete_tag(run.info.run_id, name)
        changed = [self._entities.RunTag(n, value) for n, value in wanted.items() if known.get(n) != value]
        for batch in _batches(changed, 100):
            self._mlflow.log_batch(run.info.run_id, tags=batch)

    def _status(self, run: Any, status: str, finished_at: datetime | None) -> None:
        wanted = STATUSES.get(status, "FINISHED")
        if run.info.status == wanted:
            return
        if wanted in ("SCHEDULED", "RUNNING"):
            self._mlflow.update_run(run.info.run_id, status=wanted)
        else:
            ended = _milliseconds(finished_at) if finished_at else None
            self._mlflow.set_terminated(run.info.run_id, wanted, ended)


def _connection_failed(error: BaseException | None) -> bool:
    """requests got no answer."""
    while error is not None:
        if type(error).__module__.startswith("requests.") and getattr(error, "response", None) is None:
            return True
        error = error.__cause__ or error.__context__
    return False


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _name(name: str) -> str:
    """With the characters that MLflow takes."""
    return re.sub(r"[^\w.\- :/]", "_", name)[: LIMITS["name"]]


def _progress(run: Any) -> tuple[int | None, int]:
    """The attempt whose steps are there, and the last of them, 0 if there is none; None and 0 of a complete run."""
    attempt, _space, step = run.data.tags.get(PROGRESS, "").partition(" ")
    return (int(attempt), int(step)) if step else (None, 0)


def _later(run: Any, points: Iterable[Point]) -> list[Point]:
    """Points after the last step of their name that is there. They are written in the order of their steps, so those
    before are there too, whatever the tag says: an export may have been killed before it set the tag, and a file store
    would have them twice."""
    last = {metric.key: metric.step for metric in run.data._metric_objs}  # `metrics` has no steps
    return [point for point in points if point.step > last.get(_name(point.name), -1)]


def _milliseconds(moment: datetime) -> int:
    return round(1000 * moment.timestamp())

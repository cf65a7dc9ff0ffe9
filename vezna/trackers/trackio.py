"""Write a study into a project of Trackio, by its documented functions: a run for each of its runs, one for the study.

Trackio keeps runs as they were logged, so what may still change is deleted and written again: a run that goes on, and
the study's own run. A run that has ended is written once. Trackio stores a run's configuration with its first values,
so it cannot say that all of them are there: `vezna.done` of the study's own run, written last, names such runs.
"""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

from vezna.errors import TrackerMissing, TrackerRefused, TrackioElsewhere
from vezna.trackers.markdown import arms_table, files_table, verdict_text
from vezna.trackers.study import TrackedRun, TrackedStudy
from vezna.trackers.values import by_step, numbered
from vezna.trackers.writing import Outcome

STUDY = "study"
"""`vezna.run` of the study's own run."""
ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
"""Trackio's `Api` reads this machine only, so what an earlier export wrote elsewhere could not be found."""
LOSSES = ("could not be persisted", "may be dropped", "could not flush", "continuing without config")
"""What Trackio only warns of, although values are lost."""


def connect(project: str) -> "TrackioProject":
    """A project. Raises TrackerMissing and TrackioElsewhere."""
    return TrackioProject(project)


class TrackioProject:
    """A project of Trackio on this machine."""

    def __init__(self, project: str) -> None:
        for variable in ELSEWHERE:
            if os.environ.get(variable):
                raise TrackioElsewhere(variable, project)
        try:
            self.trackio = import_module("trackio")
        except ImportError as error:
            raise TrackerMissing("trackio") from error
        self.project = project

    def open(self, study: TrackedStudy) -> "TrackioExperiment":
        """The runs of a study that are there."""
        with self.named():
            try:
                runs = list(self.trackio.Api().runs(self.project))
            except ValueError:  # there is no such project yet
                runs = []
            configured = [(run, run.config or {}) for run in runs]
        known = [(run, config) for run, config in configured if config.get("vezna.study") == study.key]
        there: dict[str, list[Any]] = {}
        done: set[str] = set()
        for run, config in known:
            there.setdefault(str(config.get("vezna.run")), []).append(run)
            done |= set(map(str, config.get("vezna.done") or ()))
        return TrackioExperiment(self, study, there, done & set(there))

    @contextmanager
    def named(self) -> Iterator[None]:
        """Without what Trackio prints; whatever it raises, and a warning that values are lost, becomes an error of
        `vezna.errors`."""
        place = f"trackio:{self.project}"
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                with redirect_stdout(StringIO()):
                    yield
            except Exception as error:  # Trackio has no base class of its errors
                raise TrackerRefused(place, " ".join(str(error).split())[:300]) from error
        for warning in warned:
            text = str(warning.message)
            if any(loss in text.lower() for loss in LOSSES):
                raise TrackerRefused(place, " ".join(text.split())[:300])
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


class TrackioExperiment:
    """A study in a project: a group of runs."""

    def __init__(
        self, tracker: TrackioProject, study: TrackedStudy, there: Mapping[str, list[Any]], done: set[str]
    ) -> None:
        self._tracker, self._study, self._there, self._done = tracker, study, there, done

    @property
    def url(self) -> str:
        """What shows it."""
        return f"trackio show --project {self._tracker.project}"

    def has_outcome(self, run: TrackedRun) -> bool:
        """The study's own run names it."""
        return str(run.id) in self._done

    def write_run(self, run: TrackedRun, outcome: Outcome | None) -> None:
        """A run; one whose outcome is there stays as it is."""
        if self.has_outcome(run):
            return
        rows: list[tuple[int, float, dict[str, Any]]] = []
        config: dict[str, Any] = _settings(run.parameters) | dict(run.tags)
        if outcome is not None:
            rows = [*by_step([*outcome.steps(), *run.points])]
            config["vezna.files"] = files_table(outcome.links())
        self._write(run.name, config, rows)
        if outcome is not None:
            self._done.add(str(run.id))

    def write_verdict(self, study: TrackedStudy, report: Path | None) -> None:
        """The study's own run: the verdict as a Markdown report, and the arms' scores and costs."""
        text = f"{verdict_text(study)}\n\n{arms_table(study.points)}"
        values = {point.name: point.value for point in study.points}
        tags = {name: value for name, value in study.tags.items() if value}
        row = values | {"verdict": self._tracker.trackio.Markdown(text)}
        done = sorted(self._done, key=int)
        self._write(study.name, tags | {"vezna.run": STUDY, "vezna.done": done}, [(0, 0.0, row)])

    def _write(self, name: str, config: Mapping[str, Any], rows: list[tuple[int, float, dict[str, Any]]]) -> None:
        whole = dict(config) | {"vezna.study": self._study.key}
        with self._tracker.named():
            for earlier in self._there.get(str(config["vezna.run"]), ()):
                earlier.delete()
            run = self._tracker.trackio.init(
                project=self._tracker.project,
                name=name,
                group=self._study.title,
                config=whole,
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            try:
                for step, _seconds, values in rows or [(0, 0.0, {"started": 1})]:  # without a value there is no run
                    run.log(values, step=step)
            finally:
                self._tracker.trackio.finish()


def _settings(parameters: Mapping[str, str]) -> dict[str, Any]:
    """As configuration; Trackio refuses names that begin with `_`, so `_name` becomes `setting_name`."""
    return {f"setting{name}" if name.startswith("_") else name: value for name, value in numbered(parameters).items()}

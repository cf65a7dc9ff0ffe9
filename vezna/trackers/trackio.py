"""Write a study into a project of Trackio, by its documented functions: a run for each of its runs, one for the study.

Trackio keeps runs as they were logged, so what may still change is deleted and written again: a run that goes on, and
the study's own run. A run that has ended is written once; its configuration says `vezna.exported`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

from vezna.errors import TrackerMissing, TrackerRefused
from vezna.trackers.markdown import arms_table, files_table, verdict_text
from vezna.trackers.study import TrackedRun, TrackedStudy, by_step, numbered
from vezna.trackers.writing import Outcome

STUDY = "study"
"""`vezna.run` of the study's own run."""


def connect(project: str) -> "TrackioProject":
    """A project. Raises TrackerMissing."""
    return TrackioProject(project)


class TrackioProject:
    """A project of Trackio on this machine, or where TRACKIO_SPACE_ID or TRACKIO_SERVER_URL say."""

    def __init__(self, project: str) -> None:
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
        there = {str(config.get("vezna.run")): run for run, config in known}
        done = {str(config.get("vezna.run")) for _run, config in known if config.get("vezna.exported")}
        return TrackioExperiment(self, study, there, done)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Without what Trackio prints; whatever it raises becomes an error of `vezna.errors`."""
        try:
            with redirect_stdout(StringIO()):
                yield
        except Exception as error:  # Trackio has no base class of its errors
            raise TrackerRefused(f"trackio:{self.project}", " ".join(str(error).split())[:300]) from error


class TrackioExperiment:
    """A study in a project: a group of runs."""

    def __init__(self, tracker: TrackioProject, study: TrackedStudy, there: Mapping[str, Any], done: set[str]) -> None:
        self._tracker, self._study, self._there, self._done = tracker, study, there, done

    @property
    def url(self) -> str:
        """What shows it."""
        return f"trackio show --project {self._tracker.project}"

    def has_outcome(self, run: TrackedRun) -> bool:
        """Its configuration says so."""
        return str(run.id) in self._done

    def write_run(self, run: TrackedRun, outcome: Outcome | None) -> None:
        """A run; one whose outcome is there stays as it is."""
        if self.has_outcome(run):
            return
        rows: list[tuple[int, float, dict[str, Any]]] = []
        config: dict[str, Any] = numbered(run.parameters) | dict(run.tags)
        if outcome is not None:
            rows = [*by_step([*outcome.steps(), *run.points])]
            config |= {"vezna.exported": True, "vezna.files": files_table(outcome.links())}
        self._write(run.name, config, rows)

    def write_verdict(self, study: TrackedStudy, report: Path | None) -> None:
        """The study's own run: the verdict as a Markdown report, and the arms' scores and costs."""
        text = f"{verdict_text(study)}\n\n{arms_table(study.points)}"
        values = {point.name: point.value for point in study.points}
        tags = {name: value for name, value in study.tags.items() if value}
        row = values | {"verdict": self._tracker.trackio.Markdown(text)}
        self._write(study.name, tags | {"vezna.run": STUDY}, [(0, 0.0, row)])

    def _write(self, name: str, config: Mapping[str, Any], rows: list[tuple[int, float, dict[str, Any]]]) -> None:
        whole = dict(config) | {"vezna.study": self._study.key}
        with self._tracker.named():
            if earlier := self._there.get(str(config["vezna.run"])):
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

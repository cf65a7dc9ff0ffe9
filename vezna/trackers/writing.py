"""The export itself, which is the same for every tracker, and what a tracker has to do for it.

A tracker opens the experiment of a study: the one of an earlier export, or a new one. Then each run that has started is
written, and last the verdict. What cannot change in an ended run (steps, results, files) is read from the server only
if the tracker does not have it yet.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Protocol, runtime_checkable

from vezna.client import Client
from vezna.errors import Refused, StudyIsPrivate
from vezna.models import Artifact
from vezna.sending.connection import API
from vezna.trackers.study import (
    STEPS,
    Point,
    TrackedRun,
    TrackedStudy,
    read_external_study,
    read_run,
    read_steps,
    read_study,
)
from vezna.trackers.validation import with_validation

MOST_STEPS = 100_000
"""Steps that the server sends at once; of more, those that keep the shape of the loss curve."""
NOT_FOUND = 404
FILE_BYTES = 10 * 2**20
"""A larger file is a link."""


@dataclass(frozen=True)
class Outcome:
    """What cannot change in an ended run, and the steps of one that goes on, each part read from the server when it is
    asked for."""

    client: Client
    run: TrackedRun

    def steps(self, after: int = 0) -> list[Point]:
        """The optimizer steps after one of them, in order; nothing if another attempt has begun since the run was read.
        Of a run with more than STEPS steps, those that keep the shape of the loss curve if it has ended and none of
        them was exported before; else every n-th from the first one on, and the last one once the run has ended.
        Raises ClientError."""
        if self.run.ended and not after:
            return list(read_steps(self.client, self.run.id))
        points = list(read_steps(self.client, self.run.id, after=after, most=MOST_STEPS))
        if not self.run.ended and self.client.run(self.run.id).attempt != self.run.attempt and self.run.attempt:
            return []
        return self._every_nth(points, after)

    def _every_nth(self, points: list[Point], after: int) -> list[Point]:
        """The steps after an exported one that are at least n apart; so they stay, if the server sends fewer than there
        are."""
        last = points[-1].step if points else 0
        every = -(-max(self.run.total_steps or 0, last) // STEPS)
        chosen, following = set[int](), after + every if after else 0
        for step in dict.fromkeys(point.step for point in points):
            if step >= following or (step == last and self.run.ended):
                chosen.add(step)
                following = step + every
        return [point for point in points if point.step in chosen]

    def links(self) -> list[dict[str, Any]]:
        """Every file: name, kind, size, SHA-256 and address."""
        return [_link(self.client, file) for file in self.run.files]

    def files(self) -> Iterator[tuple[PurePosixPath, Path]]:
        """The small files, by name; each is there until the next one is asked for. Raises ClientError."""
        for file in self.run.files:
            place = PurePosixPath(file.name)
            if file.bytes > FILE_BYTES or place.is_absolute() or ".." in place.parts:
                continue
            with TemporaryDirectory() as folder:
                yield place, self.client.save_artifact(Path(folder) / place.name, file.id)


class Experiment(Protocol):
    """A study in a tracker. Every method may be called again, and then updates. Each raises TrackerError."""

    @property
    def url(self) -> str:
        """Where a person finds it."""

    def has_outcome(self, run: TrackedRun) -> bool:
        """An earlier export wrote the outcome of a run completely."""

    def write_run(self, run: TrackedRun, outcome: Outcome | None) -> None:
        """Write parameters, state and tags of a run, and its outcome, which is None if the run goes on or if the
        outcome is there. Raises ClientError too, from reading the outcome."""

    def write_verdict(self, study: TrackedStudy, report: Path | None) -> None:
        """Write verdict, arms and the report, which may be left out; there is none of a study whose runs are trained
        elsewhere."""


@runtime_checkable
class Appends(Protocol):
    """An experiment that takes the steps and evaluations of a run while it goes on."""

    def write_steps(self, run: TrackedRun, outcome: Outcome) -> None:
        """Write the steps of a run that goes on, and its evaluations on the validation split, which an earlier export
        has not written. Raises TrackerError, and ClientError from reading the steps."""


class Tracker(Protocol):
    """Where studies are written."""

    def open(self, study: TrackedStudy) -> Experiment:
        """The experiment of a study, known by its key; a new one if there is none. Raises TrackerError."""


def read_whole(client: Client, study_id: int, *, external: bool) -> TrackedStudy:
    """A study with its comparison. Raises ClientError."""
    return read_external_study(client, study_id) if external else read_study(client, study_id)


def write_study(
    client: Client, study: TrackedStudy, tracker: Tracker, *, report: bool = True, team_only: bool = False
) -> str:
    """Write a study, with its report if there is one; the address of its experiment. With `team_only` a study that is
    private, or becomes so meanwhile, is not written any further. Raises ClientError."""
    if team_only:
        _require_visible(client, study)
    experiment = tracker.open(study)
    for run_id in study.runs:
        try:
            _write_run(client, experiment, run_id, team_only=team_only)
        except Refused as error:
            if error.status != NOT_FOUND or _exists(client, run_id):
                raise  # else the run was deleted: what the tracker has of it stays there
    if team_only:
        _require_visible(client, study)
    if study.external or not report:
        experiment.write_verdict(study, None)
        return experiment.url
    with TemporaryDirectory() as folder:
        experiment.write_verdict(study, client.save_report(Path(folder) / "report.html", study.id))
    return experiment.url


def _write_run(client: Client, experiment: Experiment, run_id: int, *, team_only: bool) -> None:
    run = read_run(client, run_id)
    if run is None:
        return
    if team_only and run.private:
        raise StudyIsPrivate
    new = run.ended and not experiment.has_outcome(run)
    if new or not run.ended:
        run = with_validation(client, run)
    if not run.ended and isinstance(experiment, Appends):
        experiment.write_steps(run, Outcome(client, run))
    experiment.write_run(run, Outcome(client, run) if new else None)


def _exists(client: Client, run_id: int) -> bool:
    try:
        return bool(client.run(run_id))
    except Refused as error:
        if error.status != NOT_FOUND:
            raise
        return False


def _require_visible(client: Client, study: TrackedStudy) -> None:
    now = client.external_study(study.id) if study.external else client.study(study.id)
    if (now.model_extra or {})["visibility"] == "private":
        raise StudyIsPrivate


def _link(client: Client, file: Artifact) -> dict[str, Any]:
    url = f"{client.server.address}{API}/artifacts/{file.id}/content"
    return {"name": file.name, "kind": file.kind, "bytes": file.bytes, "sha256": file.sha256, "url": url}

"""Write a study into event files, which TensorBoard shows: a folder for the study, in it one for each run.

A run's folder has two files. `outcome` has steps, results and hyperparameters of a run that has ended, and is written
once; `about` has its tags as a text, and follows every export. Until a run ends, each export adds a file
`steps-ATTEMPT-LAST` with the steps since the one before, and `validation-ATTEMPT-LAST` with the evaluations since. A
file is written whole under another name and then renamed, so it is complete or absent. Files of others in these folders
stay as they are.
"""

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from vezna.errors import TrackerMissing, TrackerRefused
from vezna.trackers.event_files import recorded_below
from vezna.trackers.markdown import arms_table, files_table, table, verdict_text
from vezna.trackers.recorded.reading import RecordedRun
from vezna.trackers.study import Point, TrackedRun, TrackedStudy
from vezna.trackers.validation import validation_points
from vezna.trackers.values import numbered
from vezna.trackers.writing import Outcome

IDENTITY = "vezna.json"
"""In the folder of a study: which study it is."""
GROWING = ("steps", "validation")
"""Kinds of files that are added while a run goes on."""
GROWING_FILE = re.compile(r"events\.out\.tfevents\.\d+\.[a-z]+-(?P<attempt>\d+)-(?P<last>\d+)\.vezna", re.ASCII)
LONGEST_NAME = 200
"""Bytes of a folder's name in UTF-8; file systems take 255, encrypted ones fewer."""
COMPARED = (
    "score", "base_score", "validation_score", "forgetting", "parameters/trainable", "file_bytes", "energy_joules",
    "memory/peak_bytes", "seconds/train", "seconds/wall",
)  # fmt: skip
"""Results that are beside the hyperparameters."""


def connect(folder: str) -> "EventFolder":
    """A folder that `tensorboard --logdir` is given. Raises TrackerMissing."""
    return EventFolder(Path(folder))


def read(folder: str, names: Sequence[str]) -> list[RecordedRun]:
    """The runs of a folder whose names match one of some patterns, or all. Raises TrackerMissing and NotImported."""
    return recorded_below(Path(folder), names)


class EventFolder:
    def __init__(self, folder: Path) -> None:
        try:
            self.events = import_module("tensorboardX.proto.event_pb2")
            self.summary = import_module("tensorboardX.summary")
            self.writer = import_module("tensorboardX.event_file_writer").EventsWriter
        except ImportError as error:
            raise TrackerMissing("tensorboardX") from error
        self.folder = folder

    def open(self, study: TrackedStudy) -> "EventExperiment":
        with self.named():
            names = [_file_name(study.name, study.suffix + end) for end in ("", f" {study.created_at}")]
            for place in (self.folder / name for name in names):
                if self._is_free(place, study.key):
                    place.mkdir(parents=True, exist_ok=True)
                    (place / IDENTITY).write_text(json.dumps({"study": study.key, "url": study.url}), encoding="utf-8")
                    return EventExperiment(self, place)
        raise TrackerRefused(str(self.folder), f"{names[0]} is there, and is of another study; name another folder")

    def _is_free(self, place: Path, key: str) -> bool:
        """It is of this study, or there is nothing."""
        if not (place / IDENTITY).is_file():
            return not place.exists() or not any(place.iterdir())
        try:
            return bool(json.loads((place / IDENTITY).read_text(encoding="utf-8"))["study"] == key)
        except (ValueError, KeyError, TypeError):
            return False

    @contextmanager
    def named(self) -> Iterator[None]:
        """Turn what the file system refuses into an error of `vezna.errors`."""
        try:
            yield
        except OSError as error:
            raise TrackerRefused(str(error.filename or self.folder), error.strerror or str(error)) from error


class EventExperiment:
    def __init__(self, tracker: EventFolder, folder: Path) -> None:
        self._tracker, self._folder = tracker, folder
        self._summary = tracker.summary

    @property
    def url(self) -> str:
        """What TensorBoard is given."""
        return str(self._folder.resolve())

    def has_outcome(self, run: TrackedRun) -> bool:
        """Its file is there, which is written whole."""
        return any(self._run_folder(run).glob(_pattern("outcome")))

    def write_steps(self, run: TrackedRun, outcome: Outcome) -> None:
        """A file with the steps since the last one of this attempt, and one with the evaluations since; those of an
        earlier attempt go."""
        last = {kind: self._last(run, kind) for kind in GROWING}
        found = {
            "steps": outcome.steps(after=max(last["steps"], 0)),
            "validation": [point for point in validation_points(run) if point.step > last["validation"]],
        }
        for kind, points in found.items():
            if points:
                events = [self._scalar(point, run.started_at.timestamp()) for point in points]
                self._write(self._run_folder(run), f"{kind}-{run.attempt}-{points[-1].step}", events)

    def _last(self, run: TrackedRun, kind: str) -> int:
        """The last step in the files of a kind, -1 if there is none; files of an earlier attempt are removed."""
        last = -1
        with self._tracker.named():
            for file in self._run_folder(run).glob(_pattern(f"{kind}-*")):
                if (named := GROWING_FILE.fullmatch(file.name)) is None:
                    continue  # another program's
                if int(named["attempt"]) != run.attempt:
                    file.unlink(missing_ok=True)
                else:
                    last = max(last, int(named["last"]))
        return last

    def write_run(self, run: TrackedRun, outcome: Outcome | None) -> None:
        """Two files of a run."""
        began = run.started_at.timestamp()
        if outcome is not None:
            points, links = [*outcome.steps(), *run.points], outcome.links()
            events = [self._scalar(point, began) for point in points]
            events += self._hyperparameters(run, began)
            events.append(self._text("vezna/files", files_table(links), began))
            self._write(self._run_folder(run), "outcome", events)
        if run.ended:
            for kind in GROWING:
                self._remove(self._run_folder(run), f"{kind}-*")  # the outcome has them
        about = dict(run.tags) | ({"note": run.note} if run.note else {})
        texts = {"vezna/run": about, "vezna/parameters": run.parameters}
        rows = [self._text(tag, table(["name", "value"], values.items()), began) for tag, values in texts.items()]
        self._write(self._run_folder(run), "about", rows)

    def write_verdict(self, study: TrackedStudy, report: Path | None) -> None:
        """Texts of the study's own folder; TensorBoard has no place for the report, which the server has at the study's
        address."""
        now = time.time()
        tags = {name: value for name, value in study.tags.items() if value}
        events = [
            self._text("vezna/verdict", verdict_text(study), now),
            self._text("vezna/arms", arms_table(study.points), now),
            self._text("vezna/study", table(["name", "value"], tags.items()), now),
        ]
        self._write(self._folder / "study", "about", events)

    def _run_folder(self, run: TrackedRun) -> Path:
        return self._folder / _file_name(run.name, f" (run {run.id})")

    def _scalar(self, point: Point, began: float) -> Any:
        summary = self._summary.Summary(value=[{"tag": point.name, "simple_value": point.value}])
        return self._event(summary, began + point.seconds, point.step)

    def _text(self, tag: str, markdown: str, at: float) -> Any:
        return self._event(self._summary.text(tag, markdown), at)

    def _hyperparameters(self, run: TrackedRun, began: float) -> list[Any]:
        names = {point.name: point.value for point in run.points if point.name in COMPARED}
        start = self._summary.hparams(numbered(run.parameters), names)
        experiment, begin, end = (self._event(summary, began) for summary in start)
        return [experiment, begin, end] if run.status == "succeeded" else [experiment, begin]

    def _event(self, summary: Any, at: float, step: int = 0) -> Any:
        return self._tracker.events.Event(wall_time=at, step=step, summary=summary)

    def _remove(self, folder: Path, part: str) -> None:
        with self._tracker.named():
            for file in (*folder.glob(_pattern(part)), *folder.glob(f".{part}")):
                file.unlink(missing_ok=True)

    def _write(self, folder: Path, part: str, events: Sequence[Any]) -> None:
        """A whole file of a part, instead of the one that an earlier export wrote. The writer adds time and host to
        the name; the host is nothing to export."""
        with self._tracker.named():
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(f".{part}.*"):
                left.unlink(missing_ok=True)
            writer = self._tracker.writer(str(folder / f".{part}"))
            for event in events:
                writer.write_event(event)
            writer.close()
            earlier = list(folder.glob(_pattern(part)))
            [whole] = folder.glob(f".{part}.*")
            whole.replace(folder / f"events.out.tfevents.{time.time_ns()}.{part}.vezna")
            for file in earlier:
                file.unlink(missing_ok=True)


def _pattern(part: str) -> str:
    return f"events.out.tfevents.*.{part}.vezna"


def _file_name(name: str, suffix: str) -> str:
    """With characters that every file system takes, and cut where it gets too long; what tells it apart stays whole."""
    name, suffix = (re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", part) for part in (name, suffix))
    room = LONGEST_NAME - len(suffix.encode())
    return (name.encode()[:room].decode(errors="ignore").rstrip() + suffix).strip(" .")

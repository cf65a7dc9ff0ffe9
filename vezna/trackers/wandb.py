"""Write a study as runs of Weights & Biases in offline mode: folders that `wandb sync` uploads, if the user wants that.

A run has an id made of the study and its number, so that the same run keeps its place. A run that has ended is written
once; one that goes on, and the study's own, are written again and replace the folder of the earlier export.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from vezna.errors import TrackerMissing, TrackerRefused
from vezna.trackers.study import TrackedRun, TrackedStudy
from vezna.trackers.values import by_step, numbered
from vezna.trackers.writing import Outcome

MARK = "vezna.json"
"""In the folder of a run that this module wrote completely."""
PRIVATE = {
    "console": "off",
    "save_code": False,
    "disable_git": True,
    "host": "vezna",
    "x_save_requirements": False,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "silent": True,
}
"""W&B would write the command line, the user, the host, the code's repository, installed packages and the use of this
machine."""


def connect(project: str) -> "WandbProject":
    """A project, below WANDB_DIR or the working directory. Raises TrackerMissing."""
    return WandbProject(project)


class WandbProject:
    """Offline runs of a project."""

    def __init__(self, project: str) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            self.wandb = import_module("wandb")
        except ImportError as error:
            raise TrackerMissing("wandb") from error
        self.project = project
        self.folder = Path(os.environ.get("WANDB_DIR") or ".").resolve()

    def open(self, study: TrackedStudy) -> "WandbExperiment":
        return WandbExperiment(self, study)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Turn what wandb raises into errors of `vezna.errors`."""
        try:
            yield
        except (self.wandb.Error, OSError, ValueError) as error:
            raise TrackerRefused(f"wandb:{self.project}", " ".join(str(error).split())[:300]) from error


class WandbExperiment:
    """A study: a group of runs."""

    def __init__(self, tracker: WandbProject, study: TrackedStudy) -> None:
        self._tracker, self._study = tracker, study

    @property
    def url(self) -> str:
        """Where the folders are."""
        return str(self._tracker.folder / "wandb")

    def has_outcome(self, run: TrackedRun) -> bool:
        """Its mark says so."""
        return any(mark["outcome"] for _folder, mark in self._written(str(run.id)))

    def write_run(self, run: TrackedRun, outcome: Outcome | None) -> None:
        """A run; one whose outcome is there stays as it is."""
        if self.has_outcome(run):
            return
        config: dict[str, Any] = numbered(run.parameters) | dict(run.tags)
        about = {"name": run.name, "job_type": run.tags["vezna.arm"][:64], "notes": run.note, "config": config}
        if outcome is None:
            self._write(str(run.id), about, [], [], done=False)
        else:
            rows = by_step([*outcome.steps(), *run.points])
            config["vezna.files"] = outcome.links()
            self._write(str(run.id), about, rows, outcome.files(), done=True, began=run.started_at.timestamp())

    def write_verdict(self, study: TrackedStudy, report: Path | None) -> None:
        """The study's own run: tags as configuration, the arms' scores and costs, the report as a file."""
        tags = {name: value for name, value in study.tags.items() if value}
        about = {"name": study.name, "job_type": "study", "notes": study.note or study.summary, "config": tags}
        files = [(PurePosixPath("report.html"), report)] if report is not None else []
        self._write("study", about, by_step(study.points), files, done=False)

    def _id(self, run: str) -> str:
        return f"vezna{hashlib.sha256(f'{self._study.key} {run}'.encode()).hexdigest()[:12]}"

    def _written(self, run: str) -> list[tuple[Path, dict[str, Any]]]:
        """Folders of earlier exports of a run, with their marks."""
        found = []
        for folder in sorted((self._tracker.folder / "wandb").glob(f"offline-run-*-{self._id(run)}")):
            try:
                found.append((folder, json.loads((folder / MARK).read_text(encoding="utf-8"))))
            except (OSError, ValueError):
                found.append((folder, {"outcome": False}))  # an export that broke off
        return found

    def _write(
        self,
        run_id: str,
        about: Mapping[str, Any],
        rows: Sequence[tuple[int, float, Mapping[str, float]]],
        files: Any,
        *,
        done: bool,
        began: float | None = None,
    ) -> None:
        wandb, tracker = self._tracker.wandb, self._tracker
        earlier = self._written(run_id)
        with tracker.named():
            tracker.folder.mkdir(parents=True, exist_ok=True)
            run = wandb.init(
                mode="offline",
                project=tracker.project,
                dir=str(tracker.folder),
                id=self._id(run_id),
                group=self._study.title,
                reinit="create_new",
                settings=wandb.Settings(**PRIVATE),
                **about,
            )
        exit_code = 1
        try:
            with tracker.named():
                for step, seconds, values in rows:
                    run.log(dict(values) | ({"_timestamp": began + seconds} if began else {}), step=step)
            inside = Path(run.dir)
            for name, file in files:
                with tracker.named():
                    (inside / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, inside / name)
                    run.save(str(inside / name), base_path=str(inside), policy="end")
            exit_code = 0
        finally:
            with tracker.named():
                run.finish(exit_code=exit_code)
        with tracker.named():
            (inside.parent / MARK).write_text(json.dumps({"outcome": done}), encoding="utf-8")
            for folder, _mark in earlier:
                if folder != inside.parent:
                    shutil.rmtree(folder)

"""Read runs of a Trackio project on this machine, from its SQLite file (Trackio 0.43); the package is not needed.

    metrics   run_id, timestamp, run_name, step, metrics (JSON); before 0.20 without run_id
    configs   run_id, run_name, config (JSON)

Source: trackio/sqlite_storage.py of that version.
"""

import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vezna.errors import NotImported
from vezna.trackers.recorded.reading import RecordedRun, distinct, measured, selected
from vezna.trackers.study import Point

REMEDY = "Copy it again from where Trackio wrote it"


def read(project: str, names: Sequence[str] = ()) -> list[RecordedRun]:
    """The runs of a project whose names match one of some patterns, or all. `project`: its name, or its file. Raises
    NotImported."""
    file = Path(project) if project.endswith(".db") else _directory() / f"{_on_disk(project)}.db"
    if not file.is_file():
        raise NotImported(project, "there is no %(file)s", "Set TRACKIO_DIR, or name the file", file=file)
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            key = "run_id" if _has_ids(connection) else "run_name"
            rows = connection.execute(f"SELECT DISTINCT {key}, run_name FROM metrics ORDER BY run_name")  # noqa: S608
            runs = distinct(project, [(name, value[:8], value) for value, name in rows])
            return [_recorded(connection, file, key, name, runs[name]) for name in selected(project, list(runs), names)]
    except (sqlite3.Error, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise NotImported(str(file), "it is broken (%(why)s)", REMEDY, why=str(error)[:200]) from error


def _directory() -> Path:
    if folder := os.environ.get("TRACKIO_DIR"):
        return Path(folder)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("HF_HOME") or Path(cache) / "huggingface") / "trackio"


def _on_disk(project: str) -> str:
    """A project's name in the name of its file, as Trackio makes it."""
    return "".join(c for c in project if c.isalnum() or c in "-_") or "default"


def _has_ids(connection: sqlite3.Connection) -> bool:
    return any(row[1] == "run_id" for row in connection.execute("PRAGMA table_info(metrics)"))


def _recorded(connection: sqlite3.Connection, file: Path, key: str, name: str, value: str) -> RecordedRun:
    config = connection.execute(f"SELECT config FROM configs WHERE {key} = ?", (value,)).fetchone()  # noqa: S608
    rows = connection.execute(
        f"SELECT step, timestamp, metrics FROM metrics WHERE {key} = ? ORDER BY step, id",  # noqa: S608
        (value,),
    ).fetchall()
    began, series = min(_moment(row[1]) for row in rows), dict[str, dict[int, Point]]()
    for step, at, values in rows:
        for metric, logged in json.loads(values).items():
            if (number := measured(logged)) is not None:
                point = Point(metric, number, int(step), (_moment(at) - began).total_seconds())
                series.setdefault(metric, {})[int(step)] = point
    parameters = json.loads(config[0]) if config else {}
    return RecordedRun(
        f"trackio {file.resolve()} {value}",
        name,
        {key: _text(value) for key, value in parameters.items() if not key.startswith("_")},
        {metric: [points[step] for step in sorted(points)] for metric, points in series.items()},
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

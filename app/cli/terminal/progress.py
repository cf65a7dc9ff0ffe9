"""Progress of runs on a terminal, as bars."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from app.domain.tasks import METRICS, MetricName
from app.words.format import as_read, general, percent, separator
from app.words.i18n import gettext as _
from app.words.runs.phases import PHASE_LABELS
from app.words.runs.states import state_word

ENDED = ("succeeded", "failed", "cancelled")


def bars(console: Console) -> Progress:
    """Progress with one bar per run: name, bar, state, time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
        console=console,
    )


def follow_study(console: Console, snapshots: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Show a study's runs as bars until the stream ends; returns the last snapshot."""
    last: dict[str, Any] = {"runs": [], "status": "queued"}
    with bars(console) as progress:
        tasks: dict[int, TaskID] = {}
        ended: set[int] = set()
        for last in snapshots:
            for run in last["runs"]:
                trial = run["trial_round"] is not None
                what = (
                    _("trial at %(rate)s", rate=general(run["learning_rate"]))
                    if trial
                    else _("seed %(seed)s", seed=run["seed"])
                )
                name = f"{escape(run['arm'])}, {what}"
                if run["id"] not in tasks:
                    tasks[run["id"]] = progress.add_task(f"{name:<20}", total=1.0, start=False, state="")
                _advance(progress, tasks[run["id"]], run)
                if run["status"] in ENDED and run["id"] not in ended:
                    ended.add(run["id"])
                    if not console.is_terminal:  # a file shows no bars: one line instead
                        line = _("run %(id)s (%(name)s): %(state)s", id=run["id"], name=name, state=_state(run))
                        console.print(line, highlight=False)
    return last


def follow_run(console: Console, snapshots: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Show one run as a bar until the stream ends; returns the last snapshot."""
    return follow_study(console, ({"runs": [snapshot], "status": snapshot["status"]} for snapshot in snapshots))


def _advance(progress: Progress, task: TaskID, run: dict[str, Any]) -> None:
    if run["status"] == "running":
        progress.start_task(task)
    total = run["total_steps"] or 1
    done = total if run["status"] == "succeeded" else run["step"]
    progress.update(task, total=total, completed=done, state=_state(run))
    if run["status"] in ENDED:
        progress.stop_task(task)


def _state(run: dict[str, Any]) -> str:
    if run["status"] == "succeeded":
        metric: MetricName = run["metric"]
        score = run["score"]
        return state_word("succeeded") if score is None else f"{_(METRICS[metric].title)} {_three(score)}"
    if run["status"] == "failed":
        return f"{state_word('failed')}: {run['failure_code']}"
    if run["status"] != "running":
        return state_word(run["status"])
    parts = [_(PHASE_LABELS.get(run["phase"], run["phase"])) if run["phase"] else _("starting")]
    if run["phase"] == "download" and run.get("download_bytes"):
        parts = [f"{parts[0]} {percent(run['downloaded_bytes'] / run['download_bytes'], 0)}"]
    if run["train_loss"] is not None:
        parts.append(_("loss %(loss)s", loss=_three(run["train_loss"])))
    if run["validation_score"] is not None:
        parts.append(_("validation %(score)s", score=_three(run["validation_score"])))
    return separator().join(parts)


def _three(number: float) -> str:
    return as_read(f"{number:.3f}")

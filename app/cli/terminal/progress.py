"""Progress of runs on a terminal, as bars."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from app.domain.tasks import METRICS, MetricName

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
                what = f"trial at {run['learning_rate']:g}" if trial else f"seed {run['seed']}"
                name = f"{escape(run['arm'])}, {what}"
                if run["id"] not in tasks:
                    tasks[run["id"]] = progress.add_task(f"{name:<20}", total=1.0, start=False, state="")
                _advance(progress, tasks[run["id"]], run)
                if run["status"] in ENDED and run["id"] not in ended:
                    ended.add(run["id"])
                    if not console.is_terminal:  # a file shows no bars: one line instead
                        console.print(f"run {run['id']} ({name}): {_state(run)}", highlight=False)
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
        return f"{METRICS[metric].title} {run['score']:.3f}" if run["score"] is not None else "succeeded"
    if run["status"] == "failed":
        return f"failed: {run['failure_code']}"
    if run["status"] != "running":
        return str(run["status"])
    parts = [run["phase"] or "starting"]
    if run["phase"] == "download" and run.get("download_bytes"):
        parts = [f"download {run['downloaded_bytes'] / run['download_bytes']:.0%}"]
    if run["train_loss"] is not None:
        parts.append(f"loss {run['train_loss']:.3f}")
    if run["validation_score"] is not None:
        parts.append(f"validation {run['validation_score']:.3f}")
    return ", ".join(parts)

"""What the command line shows: progress bars of a study, and its verdict as a table."""

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.domain.comparison.intervals import CONFIDENCE
from app.domain.tasks import METRICS, MetricName

MINUS = "−"
WORDS = {
    "within": "within margin",
    "better": "better",
    "worse": "worse",
    "undecided": "undecided",
    "hint": "one seed: a hint",
    "none": "no verdict",
}
ENDED = ("succeeded", "failed", "cancelled")
COLUMNS = ("Against ref.", "Peak MiB", "Train s", "Trains", "File MiB")
"""What follows the arm and its score."""


def bars(console: Console) -> Progress:
    """Progress with a bar a run: name, bar, what it does, what is left."""
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
                    if not console.is_terminal:  # bars are not drawn into a file, so say it in a line
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
        return f"{_title(run)} {run['score']:.3f}" if run["score"] is not None else "succeeded"
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


def plain_table(title: str, caption: str) -> Table:
    """A table without a frame, between its title and what it is of."""
    return Table(
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def verdict_table(comparison: dict[str, Any]) -> Table:
    """The study page's table, for a terminal."""
    margin, items = comparison["margin"] * 100, comparison["items"] or "no"
    points = f"{margin:g} {'point' if margin == 1 else 'points'}"
    forgetting = any(arm["forgetting"] for arm in comparison["arms"])
    judged = sum((arm["verdict"] or {}).get("delta") is not None for arm in comparison["arms"])
    plus = plus_minus_is(comparison["confidence"], judged)
    table = plain_table(
        title=f"{escape(comparison['name'])}: {escape(comparison['phrase'])}",
        caption=f"{_title(comparison)} on {items} test items; {plus}; margin {points}",
    )
    table.add_column("Arm")
    measure = _title(comparison)
    heads = [f"{measure[:1].upper()}{measure[1:]} %", *COLUMNS, *(["Forgot nats"] if forgetting else [])]
    for head in heads:  # in two lines, so that all of them fit
        table.add_column(head.replace(" ", "\n", 1), justify="right", no_wrap=True)
    for arm in comparison["arms"]:
        table.add_row(*_row(arm), *([_forgot(arm)] if forgetting else []))
    if comparison["untouched"]:
        table.add_row("untouched", _estimate(comparison["untouched"]), style="dim")
    return table


def plus_minus_is(confidence: float, judged: int) -> str:
    """What ± stands for where so many arms were held against the reference with this confidence of all together."""
    level = "" if confidence == CONFIDENCE else f"{100 * confidence:.4g} %"
    shared = f"over all {judged} comparisons" if judged > 1 else ""
    more = " ".join(part for part in (level, shared) if part)
    return f"± is a 95 % interval{f', of a difference {more}' if more else ''}"


def _title(judged: dict[str, Any]) -> str:
    """Of the metric by which a run or a study is judged."""
    metric: MetricName = judged["metric"]
    return METRICS[metric].title


def _row(arm: dict[str, Any]) -> list[str]:
    name = escape(arm["name"])
    missing = ", ".join(f"{n} {state}" for state, n in arm["runs"].items() if state != "succeeded")
    costs = arm["costs"]
    if (arm.get("tuning") or {}).get("failed"):
        missing = "no learning rate could be trained"
    elif arm.get("stopped"):
        missing = f"stopped, {missing}" if missing else "stopped"
    if costs is None:
        return [name, missing or "–", _against(arm), "", "", "", ""]
    return [
        f"{name} ({missing})" if missing else name,
        _estimate(arm["score"]),
        _against(arm),
        f"{costs['peak_bytes'] / 2**20:.0f}",
        f"{costs['train_seconds']:.1f}",
        short(costs["trainable_parameters"]),
        f"{costs['artifact_bytes'] / 2**20:.2f}",
    ]


def short(number: float) -> str:
    """`134 M`, `75.7 k`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def _estimate(found: dict[str, Any] | None) -> str:
    if found is None:
        return "–"
    half = (found["high"] - found["low"]) / 2
    return f"{found['mean'] * 100:.1f} ± {half * 100:.1f}"


def _forgot(arm: dict[str, Any]) -> str:
    """What it lost on general text, nats per token."""
    return f"{arm['forgetting']['mean']:+.3f}".replace("-", MINUS) if arm["forgetting"] else ""


def _against(arm: dict[str, Any]) -> str:
    if arm["reference"]:
        return "reference"
    verdict = arm["verdict"]
    if verdict is None or verdict["delta"] is None:
        return "no verdict yet"
    half = (verdict["high"] - verdict["low"]) / 2
    delta = f"{verdict['delta'] * 100:+.1f}".replace("-", MINUS)
    return f"{delta} ± {half * 100:.1f}\n{WORDS[verdict['kind']]}"

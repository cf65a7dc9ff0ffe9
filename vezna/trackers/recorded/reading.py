"""Import runs that a tracker recorded, as runs of an arm of a study whose runs are trained elsewhere.

Every run is checked before the first is written. A run is opened by a key made of its place in the tracker, so that
importing again finds it and adds nothing. A tracker has no score of each test item, no hashes of the splits, no version
of the metric: the runs lack them, so the comparison shows them and gives no verdict.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite
from typing import Any, TypeVar

from vezna.client import Client
from vezna.errors import NotImported
from vezna.models import ENDED
from vezna.trackers.study import Point
from vezna.trackers.values import numbered

Run = TypeVar("Run")

BATCH = 1000
"""Steps of a request."""
MOST_SETTINGS = 300
LONGEST_KEY = 200
CURVES = {
    "loss": ("train/loss", "loss", "train_loss", "training_loss", "train/train_loss"),
    "learning_rate": ("train/learning_rate", "learning_rate", "lr", "train/lr"),
    "grad_norm": ("train/grad_norm", "grad_norm"),
    "epoch": ("train/epoch", "epoch"),
}
"""What a step of Vezna has, and the names under which trackers have it."""
WHOLE = re.compile(r"-?[0-9]{1,18}")
LACKING = ("item_scores", "splits.train", "splits.test", "metric_version")
"""What no tracker has, by the names of docs/elsewhere.md."""


@dataclass(frozen=True)
class RecordedRun:
    """A run in a tracker."""

    key: str
    """Its place there, which no other run has."""
    name: str
    parameters: Mapping[str, str]
    series: Mapping[str, Sequence[Point]]
    """Values by metric, in ascending order of steps."""


@dataclass(frozen=True)
class ImportedRun:
    """A run that is in the study now."""

    run_id: int
    name: str
    """In the tracker."""
    seed: int
    score: float
    known: bool
    """An earlier import added it."""
    changed: bool
    """The tracker has more steps or another score than then; the run in the study stays as it was imported."""
    lacking: tuple[str, ...]
    """What the tracker does not have, by the names of docs/elsewhere.md."""


@dataclass(frozen=True)
class _Checked:
    run: RecordedRun
    seed: int
    score: float


def selected(source: str, there: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names of runs that match one of some patterns, or all: a tracker reads no other run, which may be broken.
    Raises NotImported if there is none."""
    chosen = [run for run in there if not names or any(fnmatchcase(run, name) for name in names)]
    if not chosen:
        first = ", ".join(there[:10]) or "none"
        raise NotImported(source, "no run there has this name", "Choose from the runs there: %(there)s", there=first)
    return chosen


def distinct(source: str, runs: Sequence[tuple[str, str, Run]]) -> dict[str, Run]:
    """Runs by name, of name, id and run; of several runs of one name each has its id after it. Raises NotImported if
    two have the same name then."""
    often = Counter(name for name, _id, _run in runs)
    named: dict[str, Run] = {}
    for name, run_id, run in runs:
        whole = name if often[name] == 1 else f"{name} {run_id}"
        if whole in named:
            remedy = "Give one of them another name, or copy its folder elsewhere"
            raise NotImported(source, "two runs there have the name %(name)s", remedy, name=whole)
        named[whole] = run
    return named


def measured(value: Any) -> float | None:
    """A number in JSON; trackers write what JSON has no number for as text. None for a table, an image or a text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float) or value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    return None


def import_recorded(
    client: Client,
    source: str,
    recorded: Sequence[RecordedRun],
    study_id: int,
    arm: str,
    *,
    metric: str,
    seed: int | None = None,
) -> list[ImportedRun]:
    """Import runs. `metric` names the score. `seed` is that of a single run that does not state it. Raises NotImported,
    and ClientError."""
    if seed is not None and len(recorded) > 1:
        what = "%(count)s runs cannot have one seed"
        raise NotImported(source, what, "Select one of them by its name", count=len(recorded))
    checked: dict[int, _Checked] = {}
    for run in recorded:
        one = _Checked(run, _seed_of(run) if seed is None else seed, _score_of(run, metric))
        if other := checked.get(one.seed):
            what = "%(first)s and %(second)s both have the seed %(seed)s"
            values = {"first": other.run.name, "second": run.name, "seed": one.seed}
            raise NotImported(source, what, "Select the run that counts by its name", **values)
        checked[one.seed] = one
    return [_add(client, source, study_id, arm, checked[number]) for number in sorted(checked)]


def _seed_of(run: RecordedRun) -> int:
    values = {
        name: value
        for name, value in run.parameters.items()
        if name.replace("/", ".").rpartition(".")[2] in ("seed", "random_seed") and WHOLE.fullmatch(value.strip())
    }
    seeds = {int(value) for name, value in values.items()}
    if len(seeds) > 1:
        seeds = {int(values["seed"])} if "seed" in values else seeds
    if len(seeds) != 1:
        what = "its parameters state several seeds" if seeds else "its parameters state no seed"
        raise NotImported(run.name, what, "Select it by its name and give its seed")
    return seeds.pop()


def _score_of(run: RecordedRun, metric: str) -> float:
    points = run.series.get(metric)
    if not points:
        there = ", ".join(sorted(run.series)[:20]) or "none"
        what = "it has no metric %(metric)s"
        raise NotImported(run.name, what, "Choose from its metrics: %(there)s", metric=metric, there=there)
    score = points[-1].value
    if not (isfinite(score) and 0 <= score <= 1):
        what = "its %(metric)s ends at %(score)g, and a score is a fraction from 0 to 1"
        raise NotImported(run.name, what, "Choose another metric", metric=metric, score=score)
    return score


def _add(client: Client, source: str, study_id: int, arm: str, checked: _Checked) -> ImportedRun:
    run = checked.run
    steps = list(_steps(run))
    lacking = LACKING + (() if any("loss" in step for step in steps) else ("steps",))
    facts: dict[str, Any] = {
        "settings": dict(list(numbered(run.parameters).items())[:MOST_SETTINGS]),
        "environment": {"imported_from": f"{source} {run.name}"[:500]},
    }
    opening = {"key": run.key[-LONGEST_KEY:], "arm": arm, "seed": checked.seed, "facts": facts}
    state = client.open_run(study_id, opening)
    known = state.status in ENDED
    if known:
        gone_on = bool(steps) and steps[-1]["step"] > state.step
        changed = gone_on or client.run(state.run_id).score != checked.score
    else:
        changed = False
        batches = [steps[start : start + BATCH] for start in range(0, len(steps), BATCH)]
        for number, batch in enumerate(batches, start=1):
            if number >= state.next_batch:  # the earlier ones arrived before an import broke off
                client.report(state.run_id, {"attempt": state.attempt, "number": number, "steps": batch})
        ending = {"attempt": state.attempt, "outcome": "succeeded", "recorded": {"score": checked.score}}
        client.end_run(state.run_id, ending)
    return ImportedRun(state.run_id, run.name, checked.seed, checked.score, known, changed, lacking)


def _steps(run: RecordedRun) -> Iterator[dict[str, Any]]:
    """The curves as Vezna reports them; steps that a tracker counts from 0 count from 1."""
    steps: dict[int, dict[str, Any]] = {}
    for name, names in CURVES.items():
        for point in next((run.series[there] for there in names if there in run.series), ()):
            if isfinite(point.value) and (name not in ("learning_rate", "epoch") or point.value >= 0):
                steps.setdefault(point.step, {})[name] = point.value
                steps[point.step]["seconds"] = max(point.seconds, 0.0)
    first = min(steps, default=1)
    for step in sorted(steps):
        yield {"step": step + (1 if first < 1 else 0), **steps[step]}

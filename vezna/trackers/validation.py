"""Evaluations of a run on its validation split, which come while it goes on."""

from dataclasses import replace

from vezna.client import Client
from vezna.sending.connection import Request
from vezna.trackers.study import Point, TrackedRun

PREFIXES = {"adapted": "validation/", "base": "base/validation/"}
"""Prefixes of the names of validation points, `validation/loss`, `validation/accuracy`, by what is evaluated."""


def with_validation(client: Client, run: TrackedRun) -> TrackedRun:
    """A run with the evaluations so far among its points: its result, which has them too, is there only when it has
    ended, and never of a run that is trained elsewhere. Raises ClientError."""
    if validation_points(run):
        return run
    found = []
    for one in client.request(Request("GET", f"/runs/{run.id}/evaluations")):
        values = {"loss": one["loss"], **one["metrics"]}
        place, step = PREFIXES[one["subject"]], one["step"]
        found += [Point(place + name, value, step) for name, value in values.items() if value is not None]
    return replace(run, points=[*run.points, *found])


def validation_points(run: TrackedRun) -> list[Point]:
    """Those of the evaluations, by step."""
    prefixes = tuple(PREFIXES.values())
    return sorted((point for point in run.points if point.name.startswith(prefixes)), key=lambda point: point.step)

"""What `vezna compare --runs` shows: the arms of any runs as a table, and what makes them incomparable."""

from collections.abc import Iterator
from typing import Any

from rich.markup import escape
from rich.table import Table

from app.cli.terminal.study import MINUS, plain_table, plus_minus_is, short
from app.domain.tasks import METRICS


def compared_table(found: dict[str, Any]) -> Table:
    """The table of the compare page, for a terminal."""
    margin = found["margin"] * 100
    metric = METRICS[found["metric"]].title if found["metric"] in METRICS else found["metric"]
    judged = sum((arm["against"] or {}).get("delta") is not None for arm in found["arms"])
    plus = plus_minus_is(found["confidence"], judged)
    table = plain_table(
        title=escape(found["headline"]),
        caption=f"{escape(metric)}; {plus}; margin {margin:g} {'point' if margin == 1 else 'points'}",
    )
    table.add_column("Arm")
    for head in (
        f"{metric[:1].upper()}{metric[1:]}\n%",
        "Against\nref.",
        "Peak\nMiB",
        "Train\ns",
        "Trains",
        "File\nMiB",
    ):
        table.add_column(head, justify="right", no_wrap=True)
    for arm in found["arms"]:
        table.add_row(*_row(arm))
    return table


def remarks(found: dict[str, Any]) -> Iterator[str]:
    """What makes them incomparable, a line each; then McNemar's test."""
    for obstacle in found["obstacles"]:
        yield obstacle["sentence"]
    if test := found["mcnemar"]:
        only = f"{test['only_arm']} items only the arm gets right, {test['only_reference']} only the reference"
        yield f"McNemar's exact test: {only}; p = {test['p_value']:.2g}."


def _row(arm: dict[str, Any]) -> list[str]:
    runs = ", ".join(map(str, arm["runs"][:6])) + (", …" if len(arm["runs"]) > 6 else "")
    marks = f" (imported; {runs})" if arm["imported"] else f" ({runs})"
    return [
        escape(f"{arm['title']}{marks}"),
        arm["failed"] or _score(arm["score"]),
        "reference" if arm["reference"] else _against(arm["against"]),
        _cost(arm, "peak_bytes", lambda value: f"{value / 2**20:.0f}"),
        _cost(arm, "train_seconds", lambda value: f"{value:.1f}"),
        _cost(arm, "trainable_parameters", short),
        _cost(arm, "file_bytes", lambda value: f"{value / 2**20:.2f}"),
    ]


def _cost(arm: dict[str, Any], name: str, show: Any) -> str:
    spread = arm["costs"].get(name)
    return str(show(spread["mean"])) if spread else "–"


def _score(score: dict[str, Any] | None) -> str:
    if score is None:
        return "–"
    if score["low"] is None:
        return f"{score['mean'] * 100:.1f}"
    return f"{score['mean'] * 100:.1f} ± {(score['high'] - score['low']) * 50:.1f}"


def _against(against: dict[str, Any] | None) -> str:
    if against is None:
        return "–"
    if against["delta"] is None:
        return "no verdict"
    low, high = (f"{against[end] * 100:+.1f}".replace("-", MINUS) for end in ("low", "high"))
    delta = f"{against['delta'] * 100:+.1f}".replace("-", MINUS)
    if against["basis"] == "shares":
        return f"{delta} ({low} to {high})\n{against['word']}"
    return f"{delta} ± {(against['high'] - against['low']) * 50:.1f}\n{against['word']}"

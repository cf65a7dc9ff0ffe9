"""What a tracker shows as a text, in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vezna.trackers.study import Point, TrackedStudy

COSTS = ("seeds", "trainable_parameters", "peak_bytes", "train_seconds", "wall_seconds")
"""Costs of an arm, beside its score and its difference from the reference."""


def verdict_text(study: TrackedStudy) -> str:
    """Headline, summary, address and note."""
    text = f"**{study.tags['vezna.headline']}**\n\n{study.summary}\n\n[{study.title}]({study.url})"
    return f"{text}\n\n{study.note}" if study.note else text


def files_table(links: Iterable[Mapping[str, Any]]) -> str:
    """Files with their addresses at the server."""
    return table(["file", "bytes", "address"], ((link["name"], f"{link['bytes']:,}", link["url"]) for link in links))


def arms_table(points: Sequence[Point]) -> str:
    """Arms as rows, from points that are named `arm/LoRA r=8/score`."""
    arms: dict[str, dict[str, float]] = {}
    for point in points:
        arm, _slash, name = point.name.removeprefix("arm/").rpartition("/")
        arms.setdefault(arm, {})[name] = point.value
    head = ["arm", "score", "difference", *COSTS]
    rows = ((arm, *(_interval(v, n) for n in head[1:3]), *(_number(v, n) for n in COSTS)) for arm, v in arms.items())
    return table(head, rows)


def _interval(values: Mapping[str, float], name: str) -> str:
    """`0.8854 (0.8647 to 0.9062)`"""
    if name not in values:
        return ""
    ends = [values.get(f"{name}{end}") for end in ("_low", "_high")]
    interval = " to ".join(f"{end:.4f}" for end in ends if end is not None)
    return f"{values[name]:.4f}" + (f" ({interval})" if interval else "")


def _number(values: Mapping[str, float], name: str) -> str:
    return f"{values[name]:,.{1 if name.endswith('seconds') else 0}f}" if name in values else ""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(str(value)) for value in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())

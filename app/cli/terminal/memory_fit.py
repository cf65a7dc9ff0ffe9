"""What `vezna estimate` shows: each arm's estimated peak by owner, and which devices fit."""

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from app.domain.resources.devices import size
from app.domain.resources.ledger import OWNERS

STYLES = {"fits": "green", "tight": "yellow", "does_not_fit": "red", "unknown": "dim"}


def estimates_table(answer: dict[str, Any]) -> Table:
    """Each arm on each kind of device: trainable parameters, size of the saved weights, and the peak by owner."""
    table = Table(box=box.SIMPLE_HEAD, title="Estimated peak, by owner in the largest train step", title_justify="left")
    for title in ("Arm", "On", "Trainable", "File, MiB", "Peak", *(owner.capitalize() for owner in OWNERS)):
        table.add_column(title, justify="left" if title in ("Arm", "On") else "right")
    for arm in answer["arms"]:
        for estimate in arm["estimates"]:
            table.add_row(escape(arm["name"]), _kind(estimate), *_peak_by_owner(estimate))
    return table


def fits_table(answer: dict[str, Any]) -> Table:
    """Every arm on each live worker, then on well-known GPUs."""
    table = Table(box=box.SIMPLE_HEAD, title="Memory fit", title_justify="left")
    table.add_column("Device")
    table.add_column("Memory", justify="right")
    for arm in answer["arms"]:
        table.add_column(escape(arm["name"]))
    devices = [fit["device"] for fit in answer["arms"][0]["devices"]]
    for place, device in enumerate(devices):
        memory = size(device["memory_bytes"]) if device["memory_bytes"] else "unknown"
        name = f"worker {device['name']}" if device["worker"] else device["name"]
        table.add_row(escape(name), memory, *(_fit(arm["devices"][place]) for arm in answer["arms"]))
        if device["worker"] and not all(later["worker"] for later in devices[place + 1 : place + 2]):
            table.add_section()
    return table


def remarks(answer: dict[str, Any]) -> Iterator[str]:
    """Failures and memory savings, one line each."""
    shown = set()
    for arm in answer["arms"]:
        for fit in arm["devices"]:
            line = f"{arm['name']}: {fit['message']}"
            if fit["message"] and line not in shown:
                shown.add(line)
                yield line
            for saving in fit["memory_savings"]:
                yield (
                    f"{arm['name']} on {fit['device']['name']}: {saving['title']} saves {size(saving['saved_bytes'])} "
                    f"({_words(saving)})"
                )
    if answer["pending"]:
        yield f"{answer['pending']} estimates are not ready. Is the control worker running? Try again later."


def _kind(estimate: dict[str, Any]) -> str:
    return f"{'CUDA' if estimate['kind'] == 'cuda' else 'CPU'}, {'bfloat16' if estimate['bf16'] else 'float32'}"


def _peak_by_owner(arm_estimate: dict[str, Any]) -> list[str]:
    estimate = arm_estimate["estimate"]
    if estimate is None:
        return [arm_estimate["state"]]
    ledger = estimate["ledger"]["owners"]
    peak = max(estimate["phases"].values())
    file = f"{estimate['file_bytes'] / 2**20:.2f}" if estimate["file_bytes"] else ""
    return [f"{estimate['trainable']:,}", file, size(peak), *(size(ledger.get(owner, 0)) for owner in OWNERS)]


def _fit(fit: dict[str, Any]) -> str:
    style = STYLES[fit["fit"]]
    if fit["peak"] is None or fit["fit"] == "unknown":
        return f"[{style}]{fit['state'] if fit['state'] != 'ready' else 'unknown'}[/{style}]"
    parts = [f"[{style}]{_words(fit)}[/{style}]", size(fit["peak"]["value"])]
    if fit["train_seconds"]:
        parts.append(_time(fit["train_seconds"]["value"]))
    return ", ".join(parts)


def _words(fit: dict[str, Any]) -> str:
    return str(fit["fit"]).replace("_", " ")


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

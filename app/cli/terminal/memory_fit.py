"""What `vezna estimate` shows: what each arm needs by owner, and which device has room for it."""

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from app.domain.resources.ledger import OWNERS
from app.domain.resources.no_device_fits import size

STYLES = {"fits": "green", "tight": "yellow", "does_not_fit": "red", "unknown": "dim"}


def needs_table(answer: dict[str, Any]) -> Table:
    """An arm on each kind of device: parameters that train, the file that one keeps, the peak, and who holds it."""
    table = Table(
        box=box.SIMPLE_HEAD, title="Predicted peak, and who holds it in the largest train step", title_justify="left"
    )
    for title in ("Arm", "On", "Trains", "File, MiB", "Peak", *(owner.capitalize() for owner in OWNERS)):
        table.add_column(title, justify="left" if title in ("Arm", "On") else "right")
    for arm in answer["arms"]:
        for need in arm["needs"]:
            table.add_row(escape(arm["name"]), _on(need), *_held(need))
    return table


def fits_table(answer: dict[str, Any]) -> Table:
    """Each live worker, then the well-known cards, against every arm."""
    table = Table(box=box.SIMPLE_HEAD, title="Will it fit?", title_justify="left")
    table.add_column("Device")
    table.add_column("Memory", justify="right")
    for arm in answer["arms"]:
        table.add_column(escape(arm["name"]))
    machines = [found["machine"] for found in answer["arms"][0]["machines"]]
    for place, machine in enumerate(machines):
        memory = size(machine["memory_bytes"]) if machine["memory_bytes"] else "unknown"
        name = f"worker {machine['name']}" if machine["worker"] else machine["name"]
        table.add_row(escape(name), memory, *(_fit(arm["machines"][place]) for arm in answer["arms"]))
        if machine["worker"] and not all(later["worker"] for later in machines[place + 1 : place + 2]):
            table.add_section()
    return table


def remarks(answer: dict[str, Any]) -> Iterator[str]:
    """What failed, and the ways out: a line each."""
    told = set()
    for arm in answer["arms"]:
        for found in arm["machines"]:
            line = f"{arm['name']}: {found['message']}"
            if found["message"] and line not in told:
                told.add(line)
                yield line
            for way in found["memory_savings"]:
                yield (
                    f"{arm['name']} on {found['machine']['name']}: {way['words']} saves {size(way['saved_bytes'])} "
                    f"({_words(way)})"
                )
    if answer["pending"]:
        yield f"{answer['pending']} predictions are not ready; is the control worker running? Ask again later."


def _on(need: dict[str, Any]) -> str:
    return f"{'CUDA' if need['kind'] == 'cuda' else 'CPU'}, {'bfloat16' if need['bf16'] else 'float32'}"


def _held(need: dict[str, Any]) -> list[str]:
    found = need["prediction"]
    if found is None:
        return [need["state"]]
    ledger = found["ledger"]["owners"]
    peak = max(found["phases"].values())
    file = f"{found['file_bytes'] / 2**20:.2f}" if found["file_bytes"] else ""
    return [f"{found['trainable']:,}", file, size(peak), *(size(ledger[owner]) for owner in OWNERS)]


def _fit(found: dict[str, Any]) -> str:
    style = STYLES[found["fit"]]
    if found["peak"] is None or found["fit"] == "unknown":
        return f"[{style}]{found['state'] if found['state'] != 'ready' else 'unknown'}[/{style}]"
    parts = [f"[{style}]{_words(found)}[/{style}]", size(found["peak"]["value"])]
    if found["train_seconds"]:
        parts.append(_time(found["train_seconds"]["value"]))
    return ", ".join(parts)


def _words(found: dict[str, Any]) -> str:
    return str(found["fit"]).replace("_", " ")


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

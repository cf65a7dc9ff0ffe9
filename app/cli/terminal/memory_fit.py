"""What `vezna estimate` shows: each arm's estimated peak by owner, and which devices fit."""

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from app.domain.resources.ledger import OWNERS, Owner
from app.words.format import capitalized, count, duration, file_size, memory, separator
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext, stored
from app.words.runs.states import state_word

STYLES = {"fits": "green", "tight": "yellow", "does_not_fit": "red", "unknown": "dim"}
OWNER_HEADS: dict[Owner, str] = {
    "weights": marked("weights"),
    "gradients": marked("gradients"),
    "optimizer": marked("optimizer"),
    "activations": marked("activations"),
    "temporaries": marked("temporaries"),
    "communication": marked("communication"),
    "other": marked("other"),
}
ESTIMATE_STATES = {"working": marked("working"), "ready": marked("ready"), "failed": marked("failed")}


def estimates_table(answer: dict[str, Any]) -> Table:
    """Each arm on each kind of device: trainable parameters, size of the saved weights, and the peak by owner."""
    title = _("Estimated peak, by owner in the largest train step")
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column(_("Arm"))
    table.add_column(_("On"))
    sizes = (_("Trainable"), _("File"), _("Peak"))
    for head in (*sizes, *(capitalized(_(OWNER_HEADS[owner])) for owner in OWNERS)):
        table.add_column(head, justify="right")
    for arm in answer["arms"]:
        for estimate in arm["estimates"]:
            table.add_row(escape(arm["name"]), _kind(estimate), *_peak_by_owner(estimate))
    return table


def fits_table(answer: dict[str, Any]) -> Table:
    """Every arm on each live worker, then on well-known GPUs."""
    table = Table(box=box.SIMPLE_HEAD, title=_("Memory fit"), title_justify="left")
    table.add_column(_("Device"))
    table.add_column(_("Memory"), justify="right")
    for arm in answer["arms"]:
        table.add_column(escape(arm["name"]))
    devices = [fit["device"] for fit in answer["arms"][0]["devices"]]
    for place, device in enumerate(devices):
        held = memory(device["memory_bytes"]) if device["memory_bytes"] else _("unknown")
        name = _("worker %(name)s", name=device["name"]) if device["worker"] else device["name"]
        table.add_row(escape(name), held, *(_fit(arm["devices"][place]) for arm in answer["arms"]))
        if device["worker"] and not all(later["worker"] for later in devices[place + 1 : place + 2]):
            table.add_section()
    return table


def remarks(answer: dict[str, Any]) -> Iterator[str]:
    """Failures and memory savings, one line each."""
    shown = set()
    for arm in answer["arms"]:
        for fit in arm["devices"]:
            line = f"{arm['name']}: {stored(fit['message'])}"
            if fit["message"] and line not in shown:
                shown.add(line)
                yield line
            for saving in fit["memory_savings"]:
                yield _(
                    "%(arm)s on %(device)s: %(saving)s saves %(size)s (%(fit)s)",
                    arm=arm["name"],
                    device=fit["device"]["name"],
                    saving=stored(saving["title"]),
                    size=memory(saving["saved_bytes"]),
                    fit=state_word(saving["fit"]),
                )
    if answer["pending"]:
        yield ngettext(
            "%(num)s estimate is not ready. Is the control worker running? Try again later.",
            "%(num)s estimates are not ready. Is the control worker running? Try again later.",
            answer["pending"],
        )


def _kind(estimate: dict[str, Any]) -> str:
    return f"{'CUDA' if estimate['kind'] == 'cuda' else 'CPU'}, {'bfloat16' if estimate['bf16'] else 'float32'}"


def _peak_by_owner(arm_estimate: dict[str, Any]) -> list[str]:
    estimate = arm_estimate["estimate"]
    if estimate is None:
        return [_(ESTIMATE_STATES[arm_estimate["state"]])]
    ledger = estimate["ledger"]["owners"]
    peak = max(estimate["phases"].values())
    file = file_size(estimate["file_bytes"]) if estimate["file_bytes"] else ""
    return [count(estimate["trainable"]), file, memory(peak), *(memory(ledger.get(owner, 0)) for owner in OWNERS)]


def _fit(fit: dict[str, Any]) -> str:
    style = STYLES[fit["fit"]]
    if fit["peak"] is None or fit["fit"] == "unknown":
        state = _(ESTIMATE_STATES[fit["state"]]) if fit["state"] != "ready" else _("unknown")
        return f"[{style}]{state}[/{style}]"
    parts = [f"[{style}]{state_word(fit['fit'])}[/{style}]", memory(fit["peak"]["value"])]
    if fit["train_seconds"]:
        parts.append(duration(fit["train_seconds"]["value"]))
    return separator().join(parts)

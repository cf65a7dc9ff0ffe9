"""What one run cost: memory by owner and seconds by phase, measured beside estimated."""

from functools import partial

from app.domain.resources.ledger import Ledger
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.clocks import Clocks
from app.domain.runs.result import Memory
from app.web.figures.drawing import stacks
from app.web.figures.figure import Cell, Column, Figure, Table
from app.web.figures.resources.parts import (
    REST_NOTE,
    MemoryUse,
    TimeUse,
    fit_sizes,
    holders_of,
    largest_peak,
    ledger_sizes,
    memory_sizes,
    memory_stacks,
    names,
    time_stacks,
)
from app.words.format import decimal, duration, memory_in, memory_unit, share
from app.words.format import memory as bytes_text
from app.words.i18n import gettext as _


def owners(memory: Memory, fit: RunFit) -> Figure:
    """The measured peak by owner, the estimated one below it; without a ledger, as far as it can be computed."""
    title = _("%(peak)s at the peak", peak=bytes_text(memory.peak_bytes))
    use = MemoryUse(_("measured"), memory_sizes(memory), float(memory.peak_bytes), fit if memory.ledger else None)
    if memory.ledger is None:
        note = _(
            "Weights, gradients and optimizer state are computed; activations and rest are the remainder of the "
            "measured peak."
        )
        return _figure(title, note, use)
    if fit.peak:
        title = _("%(title)s, estimated %(estimated)s", title=title, estimated=bytes_text(fit.peak.value))
    note = _(
        "Parts: what a train step held at its peak. Device overhead: what training held beyond these tensors, such as "
        "library buffers and rounding. Another phase: what evaluation, say, held above the peak of training."
    )
    return _figure(title, note, use)


def out_of_memory(ledger: Ledger, fit: RunFit) -> Figure:
    """What was held when memory ran out, and what had been estimated."""
    title = _("%(held)s were allocated when memory ran out", held=bytes_text(ledger.total))
    if fit.peak:
        title = _("%(title)s, estimated peak %(peak)s", title=title, peak=bytes_text(fit.peak.value))
    note = _("Tensors by owner at that moment; the next allocation did not fit beside them.")
    sizes = ledger_sizes(ledger.owners, ledger.total, ledger.total)
    return _figure(title, note, MemoryUse(_("at the failure"), sizes, float(ledger.total), fit))


def _figure(title: str, note: str, use: MemoryUse) -> Figure:
    largest = largest_peak([use])
    show, unit = partial(memory_in, largest=largest, digits=1), memory_unit(largest)[1]
    columns = [Column("owner", _("owner")), Column("bytes", _("%(bar)s, %(unit)s", bar=use.name, unit=unit), show)]
    rows: list[tuple[Cell, ...]] = [*zip(names(holders_of(use.sizes)), use.sizes, strict=True), (_("peak"), use.peak)]
    if use.estimated and use.estimated_peak:
        note = " ".join((note, _("Pale: estimated, with its band.")))
        columns.append(Column("estimated_bytes", _("estimated, %(unit)s", unit=unit), show))
        rows = [
            (*row, size) for row, size in zip(rows, (*fit_sizes(use.estimated), use.estimated_peak.value), strict=True)
        ]
    return Figure(
        name="owners",
        title=title,
        label=_("Peak memory by owner"),
        note=note,
        data=memory_stacks([use]),
        draw=stacks.chart,
        table=Table(tuple(columns), rows),
    )


def clocks(clocks: Clocks, fit: RunFit) -> Figure:
    """Seconds by phase; the estimated train time below them."""
    rows: list[tuple[Cell, ...]] = [
        (name, value, "" if name in ("download", "ledger_steady", "waiting") else share(value, clocks.wall))
        for name, value in clocks
        if name not in ("download", "ledger_steady", "waiting", "compile") or value
    ]
    note, train = _(REST_NOTE), fit.train_seconds
    if train:
        rows.append(("train_estimated", train.value, ""))
        rows += [("train_estimated_low", train.low, ""), ("train_estimated_high", train.high, "")]
        note = " ".join((note, _("Below the bar: the estimated training, with its band.")))
    columns = (Column("clock", _("clock")), Column("seconds", _("seconds"), decimal), Column("share", _("share")))
    return Figure(
        name="clocks",
        title=_("%(wall)s, of which %(train)s training", wall=duration(clocks.wall), train=duration(clocks.train)),
        label=_("Seconds by phase"),
        note=note,
        data=time_stacks([TimeUse(_("attempt"), dict(clocks), clocks.wall, train)]),
        draw=stacks.chart,
        table=Table(columns, rows),
    )

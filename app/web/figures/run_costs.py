"""What one run cost: memory by owner and seconds by phase, measured beside predicted."""

from app.domain.resources.ledger import Ledger
from app.domain.resources.memory_fit import RunFit
from app.domain.runs.result import Clocks, Memory
from app.web.figures.costs import (
    OWNERS,
    WIDTHS,
    before_training,
    owner_bar,
    phase_bar,
    phases,
    train_bar,
)
from app.web.figures.costs import owners as old_owners
from app.web.figures.drawing import stacks
from app.web.figures.drawing.stacks import Stacks
from app.web.figures.figure import Cell, Column, Figure, Table
from app.web.figures.owners import Foreseen, Sizes, ledger_bar, ledger_sizes, memory_sizes, names
from app.web.format import decimal, duration, memory, mib, share
from app.web.i18n import gettext as _


def owners(found: Memory, fit: RunFit | None) -> Figure:
    """The measured peak by owner, the predicted one below it; without a ledger, as far as it can be computed."""
    if found.ledger is None:
        return _old(found)
    guess = Foreseen.of(fit)
    title = _("%(peak)s at the peak", peak=memory(found.peak_bytes))
    if guess:
        title = _("%(title)s, predicted %(predicted)s", title=title, predicted=memory(guess.peak.value))
    return _figure(
        title,
        _(
            "Parts: who held what when a train step held most. The device's own: what training held beyond these "
            "tensors, such as buffers of libraries and rounding. Another phase: what that held more than training."
        ),
        (_("measured"), memory_sizes(found), float(found.peak_bytes)),
        guess,
    )


def died(ledger: Ledger, fit: RunFit | None) -> Figure:
    """What was held when memory ran out, and what had been predicted."""
    guess = Foreseen.of(fit)
    title = _("%(held)s were held when memory ran out", held=memory(ledger.total))
    if guess:
        title = _("%(title)s, predicted peak %(peak)s", title=title, peak=memory(guess.peak.value))
    return _figure(
        title,
        _("What tensors held at that moment, by owner; what was asked for then did not fit beside it."),
        (_("when it died"), ledger_sizes(ledger.owners, ledger.total, ledger.total), float(ledger.total)),
        guess,
    )


def clocks(found: Clocks, fit: RunFit | None) -> Figure:
    """Seconds by phase; the predicted train time below them."""
    seconds = {name: float(getattr(found, name)) for name in Clocks.model_fields}
    bars = [phase_bar(_("attempt"), phases(seconds), found.wall)]
    counted = {name: value for name, value in seconds.items() if name != "download" or value}
    rows: list[tuple[Cell, ...]] = [
        (name, value, "" if name == "download" else share(value, found.wall)) for name, value in counted.items()
    ]
    note = _(
        "Palest: set-up (start, load, tokenize, untouched model, cache), making batches, and evaluate, save, "
        "audit, weight updates."
    )
    if fit and fit.train_seconds:
        guess = fit.train_seconds
        bars.append(train_bar(before_training(seconds), guess))
        rows.append(("train_estimated", guess.value, ""))
        rows += [("train_estimated_low", guess.low, ""), ("train_estimated_high", guess.high, "")]
        note = " ".join((note, _("Below it: the training as it was predicted, with the band.")))
    return Figure(
        name="clocks",
        title=_("%(wall)s, of which %(train)s training", wall=duration(found.wall), train=duration(found.train)),
        label=_("Seconds by phase"),
        note=note,
        data=Stacks(tuple(bars), _("seconds, from claim to result →")),
        draw=stacks.chart,
        widths=WIDTHS,
        table=Table(
            (Column("clock", _("clock")), Column("seconds", _("s"), decimal), Column("share", _("share"))), tuple(rows)
        ),
    )


def _figure(title: str, note: str, bar: tuple[str, Sizes, float], guess: Foreseen | None) -> Figure:
    name, sizes, peak = bar
    bars = [ledger_bar(name, sizes, peak)]
    columns = [Column("owner", _("owner")), Column("bytes", name, lambda v: mib(v, 1))]
    rows: list[tuple[Cell, ...]] = [*zip(names(), sizes, strict=True), (_("peak"), peak)]
    if guess:
        bars.append(guess.bar)
        note = " ".join((note, _("Pale: predicted, with its band.")))
        columns.append(Column("estimated_bytes", _("predicted"), lambda v: mib(v, 1)))
        rows = [(*row, its) for row, its in zip(rows, (*guess.sizes, guess.peak.value), strict=True)]
    return Figure(
        name="owners",
        title=title,
        label=_("Peak memory by owner"),
        note=note,
        data=Stacks(tuple(bars), _("MiB above the idle process, at the peak →")),
        draw=stacks.chart,
        widths=WIDTHS,
        table=Table(tuple(columns), tuple(rows)),
    )


def _old(found: Memory) -> Figure:
    sizes = old_owners(found)
    words = (_(name) for _css, name, _colour in OWNERS)
    rows: tuple[tuple[Cell, ...], ...] = (*zip(words, sizes, strict=True), (_("measured peak"), found.peak_bytes))
    return Figure(
        name="owners",
        title=_("%(peak)s at the peak", peak=memory(found.peak_bytes)),
        label=_("Peak memory by owner"),
        note=_(
            "Weights, gradients and optimizer state are computed; activations and the rest are what they leave of the "
            "measured peak."
        ),
        data=Stacks(
            (owner_bar(_("measured"), sizes, found.peak_bytes),), _("MiB above the idle process, at the peak →")
        ),
        draw=stacks.chart,
        widths=WIDTHS,
        table=Table((Column("owner", _("owner")), Column("bytes", _("MiB"), lambda v: mib(v, 1))), rows),
    )

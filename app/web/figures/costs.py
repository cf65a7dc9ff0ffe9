"""Time by phase, and memory as it was split before runs had ledgers: three owners computed, and what is left."""

from app.domain.comparison import Arm, Comparison, Costs
from app.domain.metrics import Memory
from app.web.charts import stacks
from app.web.charts.stacks import Bar, Part, Stacks
from app.web.figures.figure import Column, Figure, Key, Table
from app.web.i18n import gettext as _
from app.web.i18n import marked
from app.web.numbers import MIB, decimal, duration, mib
from app.web.words.parts import focus, said, seeds, sentence

OWNERS = (
    ("weights", marked("weights"), "var(--o-weights)"),
    ("gradients", marked("gradients"), "var(--o-gradients)"),
    ("optimizer", marked("optimizer state"), "var(--o-optimizer)"),
    ("activations", marked("activations and the rest"), "var(--o-activations)"),
)
"""Class, name, colour. The first three are computed; the last is what they leave of the measured peak."""

PHASES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("idle", marked("set-up"), "var(--p-idle)", ("start", "load", "tokenize", "baseline", "cache")),
    ("forward", marked("forward"), "var(--p-forward)", ("forward",)),
    ("backward", marked("backward"), "var(--p-backward)", ("backward",)),
    ("step-time", marked("optimizer"), "var(--p-optimizer)", ("optimizer",)),
    ("idle", marked("batches"), "var(--p-idle)", ("data",)),
    (
        "idle",
        marked("evaluate, save, audit, weight updates"),
        "var(--p-idle)",
        ("evaluate", "save", "audit", "updates"),
    ),
)
"""Class, name, colour, and the clocks that it sums."""

WIDTHS = (556, 356)


def owners(found: Costs | Memory) -> tuple[float, ...]:
    """Bytes of each of OWNERS."""
    return (found.weights_bytes, found.gradients_bytes, found.optimizer_bytes, found.rest_bytes)


def phases(clocks: dict[str, float]) -> tuple[float, ...]:
    """Seconds of each of PHASES."""
    return tuple(sum(clocks[name] for name in names) for _css, _name, _colour, names in PHASES)


def owner_bar(name: str, sizes: tuple[float, ...], peak: float) -> Bar:
    """A bar of memory."""
    parts = tuple(Part(_(word), colour, size / MIB) for (_c, word, colour), size in zip(OWNERS, sizes, strict=True))
    return Bar(name, parts, peak / MIB, mib(peak))


def phase_bar(name: str, seconds: tuple[float, ...], total: float) -> Bar:
    """A bar of time."""
    parts = tuple(Part(_(word), colour, size) for (_c, word, colour, _n), size in zip(PHASES, seconds, strict=True))
    return Bar(name, parts, total, duration(total))


def owner_key() -> tuple[Key, ...]:
    """The legend of memory."""
    return tuple(Key(css, _(name)) for css, name, _colour in OWNERS)


def phase_key() -> tuple[Key, ...]:
    """The legend of time."""
    clocks = tuple(Key(css, _(name)) for css, name, _colour, _n in PHASES if css != "idle")
    return (Key("idle", _("set-up; batches; evaluate, save, audit, ΔW")), *clocks)


def time(found: Comparison) -> Figure:
    """The seconds of an attempt, by phase."""
    done = [(arm, arm.costs) for arm in found.arms if arm.costs]
    bars = tuple(phase_bar(arm.title, phases(costs.clocks), costs.wall_seconds.mean) for arm, costs in done)
    return Figure(
        name="time",
        title=_time_title(found),
        label=_("Seconds by phase, a bar an arm"),
        note=_time_note(done, comparable=found.times_comparable),
        data=Stacks(bars, _("seconds, from claim to result →")),
        draw=stacks.chart,
        widths=WIDTHS,
        table=_time_table(done),
        key=phase_key(),
        empty="" if bars else _("No run has a result yet."),
    )


def _time_title(found: Comparison) -> str:
    """Where the focus arm saves its train time, if it saves any and the times compare."""
    arm, its = focus(found), found.reference.costs
    own = arm.costs if arm else None
    if arm is None or own is None or its is None or not found.times_comparable:
        return _("Seconds by phase")
    values = {"arm": said(arm), "reference": said(found.reference)}
    saved = its.train_seconds.mean - own.train_seconds.mean
    if saved <= 0:
        return sentence(_("%(arm)s trains no faster than %(reference)s", **values))
    parts = {name: its.clocks[name] - own.clocks[name] for name in ("forward", "backward", "optimizer")}
    most = max(parts, key=lambda name: parts[name])
    words = {"forward": _("the forward pass"), "backward": _("the backward pass"), "optimizer": _("the optimizer")}
    text = _(
        "%(arm)s saves %(saved)s of %(whole)s of training, %(part)s of it in %(phase)s",
        saved=duration(saved),
        whole=duration(its.train_seconds.mean),
        part=duration(min(parts[most], saved)),
        phase=words[most],
        **values,
    )
    return sentence(text)


def _time_note(done: list[tuple[Arm, Costs]], *, comparable: bool) -> str:
    if not done:
        return ""
    counts = [len(arm.succeeded) for arm, _costs in done]
    over = seeds(counts)
    several = max(counts) > 1
    text = _("Seconds by phase, mean of %(seeds)s.", seeds=over) if several else _("Seconds by phase, one seed.")
    text += " " + _(
        "Palest: set-up (start, load, tokenize, untouched model, cache), making batches, and evaluate, save, "
        "audit, weight updates."
    )
    return text if comparable else text + " " + _("Not one device, or runs side by side: the times do not compare.")


def _time_table(done: list[tuple[Arm, Costs]]) -> Table:
    columns = [Column("arm", _("arm"))]
    names = ("setup", "forward", "backward", "optimizer", "batches", "evaluate_save_audit")
    for name, (_css, word, _colour, _n) in zip(names, PHASES, strict=True):
        columns.append(Column(f"{name}_seconds", _(word), decimal))
    columns.append(Column("wall_seconds", _("whole attempt"), decimal))
    return Table(tuple(columns), tuple((arm.title, *phases(c.clocks), c.wall_seconds.mean) for arm, c in done))

"""Headlines of a memory map: up to which batch size a method fits, and where it stops saving memory."""

from dataclasses import dataclass

from app.domain.resources.memory_map import MapCellFit, MapReport
from app.words.format import capitalized, count, percent
from app.words.i18n import gettext as _
from app.words.models.memory_fit import exact
from app.words.runs.fields import option

LITTLE = 0.1
"""Savings below this share of the memory are negligible."""


@dataclass(frozen=True)
class MethodSaving:
    """What a method saves compared with the reference method."""

    reference: str
    most: float
    """Shares of the reference's peak: the largest saving of any cell, and the smallest."""
    least: float
    from_tokens: int | None
    """From batches of this many tokens on it saves little; None where it saves more throughout."""
    activations: bool
    """There, activations and temporaries are most of its memory."""


def reference(report: MapReport) -> int:
    """Index of the reference method: full fine-tuning, else the first."""
    return next((place for place, method in enumerate(report.methods) if method.kind == "full"), 0)


def saving(report: MapReport, method: int) -> MethodSaving | None:
    """What a method saves; None for the reference."""
    baseline = reference(report)
    if method == baseline:
        return None
    baseline_cells = {(c.length, c.rows): c for c in report.cells if c.method == baseline}
    cells = [c for c in report.cells if c.method == method]
    shares = [1 - c.peak.value / baseline_cells[c.length, c.rows].peak.value for c in cells]
    if not shares:
        return None
    largest_saving = max((_tokens(c) for c, share in zip(cells, shares, strict=True) if share >= LITTLE), default=0)
    beyond = [c for c in cells if _tokens(c) > largest_saving]
    return MethodSaving(
        reference=report.methods[baseline].label,
        most=max(shares),
        least=min(shares),
        from_tokens=min(map(_tokens, beyond), default=None),
        activations=bool(beyond) and all(map(_mostly_activations, beyond)),
    )


def precision_words(report: MapReport) -> str:
    """`bfloat16` or `float32`."""
    return option("bf16", "true" if report.bf16 else "false")


def title(report: MapReport, method: int) -> str:
    fits = _fits(report, method)
    saved = _saved(saving(report, method))
    return capitalized(_("%(fits)s; %(saved)s", fits=fits, saved=saved) if saved else fits)


def _fits(report: MapReport, method: int) -> str:
    name = report.methods[method].label
    device = _("%(device)s in %(precision)s", device=report.device.name, precision=precision_words(report))
    boundaries = [b for b in report.boundaries if b.method == method]
    fitting = [(b.length, b.rows) for b in boundaries if b.rows is not None]
    values = {"method": name, "device": device}
    if not fitting:
        least = min((c for c in report.cells if c.method == method), key=lambda c: c.peak.value)
        values |= {"rows": count(least.rows), "length": count(least.length), "peak": exact(least.peak.value)}
        if least.fit == "tight":
            text = _(
                "%(method)s is at best tight on %(device)s: batch size %(rows)s at %(length)s tokens needs %(peak)s"
            )
        else:
            text = _("%(method)s does not fit %(device)s: batch size %(rows)s at %(length)s tokens needs %(peak)s")
        return text % values
    length, rows = max(fitting)
    values |= {"rows": count(rows), "length": count(length)}
    if all(b.rows == report.batch_sizes[-1] for b in boundaries):
        return _("%(method)s fits %(device)s throughout, up to batch size %(rows)s at %(length)s tokens", **values)
    if length == report.lengths[-1]:
        return _("%(method)s fits up to batch size %(rows)s at %(length)s tokens on %(device)s", **values)
    longer = next(longer for longer in report.lengths if longer > length)
    return _(
        "%(method)s fits up to batch size %(rows)s at %(length)s tokens on %(device)s, and not at all at %(longer)s",
        longer=count(longer),
        **values,
    )


def _saved(saving: MethodSaving | None) -> str:
    if saving is None:
        return ""
    if saving.from_tokens is None:
        return _(
            "it saves %(least)s to %(most)s of the memory of %(reference)s",
            least=percent(saving.least, 0),
            most=percent(saving.most, 0),
            reference=saving.reference,
        )
    text = _("from batches of %(tokens)s tokens on it saves less than a tenth of the memory of %(reference)s")
    if saving.activations:
        text = _("%(saving)s, because activations dominate", saving=text)
    return text % {"tokens": count(saving.from_tokens), "reference": saving.reference}


def _tokens(cell: MapCellFit) -> int:
    return cell.length * cell.rows


def _mostly_activations(cell: MapCellFit) -> bool:
    held = cell.ledger.owners
    return held.get("activations", 0) + held.get("temporaries", 0) > cell.ledger.total / 2

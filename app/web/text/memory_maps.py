"""Headlines of a memory map: up to which batch size a method fits, and where it stops saving memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.resources.memory_map import MapCellFit, MapReport
from app.web.format import capitalized, count, percent
from app.web.i18n import gettext as _
from app.web.text.fields import option
from app.web.text.memory_fit import exact

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
    cells = sorted((c for c in report.cells if c.method == method), key=lambda c: c.length * c.rows)
    shares = [1 - c.peak.value / baseline_cells[c.length, c.rows].peak.value for c in cells]
    if not shares:
        return None
    tokens = _from(cells, shares)
    return MethodSaving(
        reference=report.methods[baseline].label,
        most=max(shares),
        least=min(shares),
        from_tokens=tokens,
        activations=tokens is not None and all(map(_mostly_activations, (c for c in cells if _tokens(c) >= tokens))),
    )


def precision_words(report: MapReport) -> str:
    """`bfloat16` or `float32`."""
    return option("bf16", "true" if report.bf16 else "false")


def title(report: MapReport, method: int) -> str:
    """The takeaway of a method's map."""
    fits = _fits(report, method)
    saved = _saved(saving(report, method))
    return capitalized(_("%(fits)s; %(saved)s", fits=fits, saved=saved) if saved else fits)


def _fits(report: MapReport, method: int) -> str:
    name = report.methods[method].label
    device = _("%(device)s in %(precision)s", device=report.device.name, precision=precision_words(report))
    found = [b for b in report.boundaries if b.method == method]
    able = [(b.length, b.rows) for b in found if b.rows is not None]
    values = {"method": name, "device": device}
    if not able:
        least = min((c for c in report.cells if c.method == method), key=lambda c: c.peak.value)
        where = {"rows": count(least.rows), "length": count(least.length), "peak": exact(least.peak.value)}
        if least.fit == "tight":
            return _(
                "%(method)s is at best tight on %(device)s: batch size %(rows)s at %(length)s tokens needs %(peak)s",
                **values,
                **where,
            )
        return _(
            "%(method)s does not fit %(device)s: batch size %(rows)s at %(length)s tokens needs %(peak)s",
            **values,
            **where,
        )
    length, rows = max(able)
    values |= {"rows": count(rows), "length": count(length)}
    if all(b.rows == report.batch_sizes[-1] for b in found):
        return _("%(method)s fits %(device)s throughout, up to batch size %(rows)s at %(length)s tokens", **values)
    if length == report.lengths[-1]:
        return _("%(method)s fits up to batch size %(rows)s at %(length)s tokens on %(device)s", **values)
    longer = next(longer for longer in report.lengths if longer > length)
    return _(
        "%(method)s fits up to batch size %(rows)s at %(length)s tokens on %(device)s, and not at all at %(longer)s",
        longer=count(longer),
        **values,
    )


def _saved(found: MethodSaving | None) -> str:
    if found is None:
        return ""
    if found.from_tokens is None:
        return _(
            "it saves %(least)s to %(most)s of the memory of %(reference)s",
            least=percent(found.least, 0),
            most=percent(found.most, 0),
            reference=found.reference,
        )
    values = {"tokens": count(found.from_tokens), "reference": found.reference}
    if found.activations:
        return _(
            "from batches of %(tokens)s tokens on it saves less than a tenth of the memory of %(reference)s, because "
            "activations dominate",
            **values,
        )
    return _("from batches of %(tokens)s tokens on it saves less than a tenth of the memory of %(reference)s", **values)


def _from(cells: Sequence[MapCellFit], shares: Sequence[float]) -> int | None:
    """Tokens of the smallest batch from which on every one saves little."""
    found: int | None = None
    for cell, share in zip(reversed(cells), reversed(shares), strict=True):
        if share >= LITTLE:
            above = [_tokens(c) for c in cells if _tokens(c) > _tokens(cell)]
            return min(above, default=None) if found is not None else None
        found = _tokens(cell)
    return found


def _tokens(cell: MapCellFit) -> int:
    return cell.length * cell.rows


def _mostly_activations(cell: MapCellFit) -> bool:
    held = cell.ledger.owners
    return held.get("activations", 0) + held.get("temporaries", 0) > cell.ledger.total / 2

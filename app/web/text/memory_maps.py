"""What a map of memory says: up to where a method fits, and where it stops saving."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.resources.memory_map import MapCellFit, MapReport
from app.web.format import capitalized, count, percent
from app.web.i18n import gettext as _
from app.web.text.fields import option
from app.web.text.memory_fit import exact

LITTLE = 0.1
"""A method that saves less than this share of the memory saves none to speak of."""


@dataclass(frozen=True)
class Saving:
    """A method against the one that it is held against."""

    against: str
    most: float
    """Shares of the other's peak: the most that is saved in any cell, and the least."""
    least: float
    from_tokens: int | None
    """From batches of so many tokens on it saves little; None where it saves more throughout."""
    activations: bool
    """There, activations and temporaries are most of what it needs."""


def reference(report: MapReport) -> int:
    """Place of the method that the others are held against: full fine-tuning, else the first."""
    return next((place for place, method in enumerate(report.methods) if method.kind == "full"), 0)


def saving(report: MapReport, method: int) -> Saving | None:
    """What a method saves; None of the one that it is held against."""
    against = reference(report)
    if method == against:
        return None
    theirs = {(c.length, c.rows): c for c in report.cells if c.method == against}
    cells = sorted((c for c in report.cells if c.method == method), key=lambda c: c.length * c.rows)
    shares = [1 - c.peak.value / theirs[c.length, c.rows].peak.value for c in cells]
    if not shares:
        return None
    tokens = _from(cells, shares)
    return Saving(
        against=report.methods[against].label,
        most=max(shares),
        least=min(shares),
        from_tokens=tokens,
        activations=tokens is not None and all(map(_mostly_activations, (c for c in cells if _tokens(c) >= tokens))),
    )


def number_format(report: MapReport) -> str:
    """What it computes in: `bfloat16`."""
    return option("bf16", "true" if report.bf16 else "false")


def title(report: MapReport, method: int) -> str:
    """The takeaway of a method's map."""
    fits = _fits(report, method)
    saved = _saved(saving(report, method))
    return capitalized(_("%(fits)s; %(saved)s", fits=fits, saved=saved) if saved else fits)


def _fits(report: MapReport, method: int) -> str:
    name = report.methods[method].label
    machine = _("%(machine)s in %(format)s", machine=report.machine.name, format=number_format(report))
    found = [b for b in report.boundaries if b.method == method]
    able = [(b.length, b.rows) for b in found if b.rows is not None]
    values = {"method": name, "machine": machine}
    if not able:
        least = min((c for c in report.cells if c.method == method), key=lambda c: c.peak.value)
        where = {"rows": count(least.rows), "length": count(least.length), "peak": exact(least.peak.value)}
        if least.fit == "tight":
            return _(
                "%(method)s is tight on %(machine)s at best: batch %(rows)s at %(length)s tokens needs %(peak)s",
                **values,
                **where,
            )
        return _(
            "%(method)s fits nowhere on %(machine)s: batch %(rows)s at %(length)s tokens needs %(peak)s",
            **values,
            **where,
        )
    length, rows = max(able)
    values |= {"rows": count(rows), "length": count(length)}
    if all(b.rows == report.batch_sizes[-1] for b in found):
        return _("%(method)s fits on %(machine)s throughout, up to batch %(rows)s at %(length)s tokens", **values)
    if length == report.lengths[-1]:
        return _("%(method)s fits up to batch %(rows)s at %(length)s tokens on %(machine)s", **values)
    longer = next(longer for longer in report.lengths if longer > length)
    return _(
        "%(method)s fits up to batch %(rows)s at %(length)s tokens on %(machine)s, and at %(longer)s not at all",
        longer=count(longer),
        **values,
    )


def _saved(found: Saving | None) -> str:
    if found is None:
        return ""
    if found.from_tokens is None:
        return _(
            "it saves from %(least)s to %(most)s of what %(against)s needs",
            least=percent(found.least, 0),
            most=percent(found.most, 0),
            against=found.against,
        )
    values = {"tokens": count(found.from_tokens), "against": found.against}
    if found.activations:
        return _(
            "from batches of %(tokens)s tokens on it saves less than a tenth of what %(against)s needs, for "
            "activations dominate",
            **values,
        )
    return _("from batches of %(tokens)s tokens on it saves less than a tenth of what %(against)s needs", **values)


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
